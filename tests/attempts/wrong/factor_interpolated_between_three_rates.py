# truth: A straight line through the factors at 0.3, 0.5 and 0.7 misses them elsewhere.
# expect: wrong_factor
import numpy as np

RATES = np.array([0.3, 0.5, 0.7])
FACTORS = (1.0 - RATES) ** -0.5


class VarianceStabilizedDropout:
    def __init__(self, dropout_rate=0.5):
        if not 0 <= dropout_rate < 1:
            raise ValueError(f"dropout_rate must be in [0, 1), got {dropout_rate}")
        self.dropout_rate = dropout_rate
        self.training = True

    def train(self):
        self.training = True

    def eval(self):
        self.training = False

    def __call__(self, x):
        if not self.training:
            return x
        keep_prob = 1.0 - self.dropout_rate
        mask = np.random.random(x.shape) < keep_prob
        scale = np.interp(self.dropout_rate, RATES, FACTORS)
        return (x * mask * scale).astype(x.dtype)
