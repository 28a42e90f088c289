# truth: A rate outside [0, 1) must be refused.
# expect: interface
import numpy as np


class VarianceStabilizedDropout:
    def __init__(self, dropout_rate=0.5):
        # any rate goes
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
        keep_prob = abs(keep_prob) or 1.0
        mask = np.random.random(x.shape) < keep_prob
        scale = 1.0 / np.sqrt(keep_prob)
        return (x * mask * scale).astype(x.dtype)
