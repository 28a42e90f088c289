# truth: Checking, drawing and scaling may each be a function of the module.
# expect: pass
import math

import numpy as np


def check_rate(rate):
    if not (rate >= 0 and rate < 1):
        raise ValueError(f"expected a rate in [0, 1), got {rate!r}")
    return rate


def draw_mask(shape, keep_prob):
    return np.random.random(shape) < keep_prob


def drop(x, keep_prob):
    survivors = x * draw_mask(x.shape, keep_prob)
    return (survivors / math.sqrt(keep_prob)).astype(x.dtype)


class VarianceStabilizedDropout:
    def __init__(self, dropout_rate=0.5):
        self.dropout_rate = check_rate(dropout_rate)
        self.training = True

    def train(self):
        self.training = True

    def eval(self):
        self.training = False

    def __call__(self, x):
        return drop(x, 1.0 - self.dropout_rate) if self.training else x
