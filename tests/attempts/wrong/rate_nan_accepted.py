# truth: Two comparisons that are both false for nan let it through.
# expect: interface
import numpy as np


class VarianceStabilizedDropout:
    def __init__(self, dropout_rate=0.5):
        if dropout_rate < 0 or dropout_rate >= 1:
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
        scale = 1.0 / np.sqrt(keep_prob)
        return (x * mask * scale).astype(x.dtype)
