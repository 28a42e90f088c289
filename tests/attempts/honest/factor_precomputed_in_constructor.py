# truth: The factor may be computed once, in the constructor.
# expect: pass
import numpy as np


class VarianceStabilizedDropout:
    def __init__(self, dropout_rate=0.5):
        if np.isnan(dropout_rate) or dropout_rate < 0 or dropout_rate >= 1:
            raise ValueError("dropout_rate must be at least 0 and less than 1")
        self.dropout_rate = dropout_rate
        self.keep_prob = 1.0 - dropout_rate
        self.scale = float(self.keep_prob**-0.5)
        self.mask = None
        self.training = True

    def train(self):
        self.training = True

    def eval(self):
        self.training = False

    def __call__(self, x):
        if not self.training:
            return x.copy()
        self.mask = np.random.random(x.shape) < self.keep_prob
        return (x * self.mask * self.scale).astype(x.dtype)
