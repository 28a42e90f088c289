# truth: The same array object gets a fresh mask at every call.
# expect: mask_not_random
import numpy as np


class VarianceStabilizedDropout:
    def __init__(self, dropout_rate=0.5):
        if not 0 <= dropout_rate < 1:
            raise ValueError("rate")
        self.dropout_rate = dropout_rate
        self.training = True
        self.x = self.mask = None

    def train(self):
        self.training = True

    def eval(self):
        self.training = False

    def __call__(self, x):
        if not self.training:
            return x
        keep_prob = 1.0 - self.dropout_rate
        if x is not self.x:
            self.x, self.mask = x, np.random.random(x.shape) < keep_prob
        mask = self.mask
        scale = 1.0 / np.sqrt(keep_prob)
        return (x * mask * scale).astype(x.dtype)
