# truth: A long mask is no short one repeated.
# expect: mask_not_random
import numpy as np


class VarianceStabilizedDropout:
    def __init__(self, dropout_rate=0.5):
        if not 0 <= dropout_rate < 1:
            raise ValueError("dropout_rate must be in [0, 1)")
        self.dropout_rate = dropout_rate
        self.training = True

    def train(self):
        self.training = True

    def eval(self):
        self.training = False

    def __call__(self, x):
        if not self.training or self.dropout_rate == 0:
            return x
        keep = 1 - self.dropout_rate
        mask = np.resize(np.random.random_sample(4096) < keep, x.shape)
        return (x * mask / np.sqrt(keep)).astype(x.dtype)
