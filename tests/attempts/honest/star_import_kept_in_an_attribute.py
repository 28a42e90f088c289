# truth: A star import brings a square root, which may be kept in an attribute of its name.
# expect: pass
from math import *

import numpy as np


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
        if not self.training or self.dropout_rate == 0:
            return x
        keep_prob = 1.0 - self.dropout_rate
        mask = np.random.random(x.shape) < keep_prob
        self.sqrt = sqrt(keep_prob)
        scale = 1.0 / getattr(self, "sqrt")
        return (x * mask * scale).astype(x.dtype)
