# truth: A generator without a seed for each layer gives two layers different masks.
# expect: pass
import numpy as np


class VarianceStabilizedDropout:
    def __init__(self, dropout_rate=0.5):
        if not 0 <= dropout_rate < 1:
            raise ValueError(f"dropout_rate must be in [0, 1), got {dropout_rate}")
        self.dropout_rate = dropout_rate
        self.training = True
        self.rng = np.random.default_rng()

    def train(self):
        self.training = True

    def eval(self):
        self.training = False

    def __call__(self, x):
        if not self.training:
            return x
        keep_prob = 1.0 - self.dropout_rate
        mask = self.rng.random(x.shape) < keep_prob
        return (x * mask / np.sqrt(keep_prob)).astype(x.dtype)
