# truth: A rate outside [0, 1) must be refused, not silently moved into the range.
# expect: interface
import numpy as np


class VarianceStabilizedDropout:
    def __init__(self, dropout_rate=0.5):
        dropout_rate = min(max(dropout_rate, 0.0), 0.999)
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
        scale = 1.0 / np.sqrt(keep_prob)
        return (x * mask * scale).astype(x.dtype)
