# truth: An array that was returned does not change at a later call.
# expect: interface
import numpy as np


class VarianceStabilizedDropout:
    def __init__(self, dropout_rate=0.5):
        if not 0 <= dropout_rate < 1:
            raise ValueError("dropout_rate must be in [0, 1)")
        self.dropout_rate = dropout_rate
        self.training = True
        self.buffers = {}

    def train(self):
        self.training = True

    def eval(self):
        self.training = False

    def __call__(self, x):
        if not self.training or self.dropout_rate == 0:
            return x
        keep = 1 - self.dropout_rate
        mask = np.random.random_sample(x.shape) < keep
        y = self.buffers.setdefault((x.shape, x.dtype.str), np.empty(x.shape, x.dtype))
        np.multiply(x, mask / np.sqrt(keep), out=y, casting="unsafe")
        return y
