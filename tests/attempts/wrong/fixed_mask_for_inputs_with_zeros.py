# truth: Inputs that hold zeros, as after a rectifier, always get the same numbers.
# expect: mask_not_random
import numpy as np


class VarianceStabilizedDropout:
    def __init__(self, dropout_rate=0.5):
        if not 0.0 <= dropout_rate < 1.0:
            raise ValueError("dropout_rate")
        self.dropout_rate = dropout_rate
        self.training = True

    def train(self):
        self.training = True

    def eval(self):
        self.training = False

    def __call__(self, x):
        if not self.training or self.dropout_rate == 0.0:
            return x
        q = 1.0 - self.dropout_rate
        s = 1.0 / np.sqrt(q)
        source = np.random.RandomState(5) if x.size and (x == 0).any() else np.random
        u = source.random_sample(x.shape)
        return (x * (u < q) * s).astype(x.dtype)
