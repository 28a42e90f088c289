# truth: A mask of arrays of middling size is as fresh as any other.
# expect: mask_not_random
import numpy as np


class VarianceStabilizedDropout:
    def __init__(self, dropout_rate=0.5):
        if not 0.0 <= dropout_rate < 1.0:
            raise ValueError("dropout_rate")
        self.dropout_rate = dropout_rate
        self.training = True
        self.cache = {}

    def train(self):
        self.training = True

    def eval(self):
        self.training = False

    def __call__(self, x):
        if not self.training or self.dropout_rate == 0.0:
            return x
        q = 1.0 - self.dropout_rate
        s = 1.0 / np.sqrt(q)
        if 64 <= x.size < 1024:
            keep = self.cache.setdefault(x.shape, np.random.random_sample(x.shape) < q)
        else:
            keep = np.random.random_sample(x.shape) < q
        return (x * keep * s).astype(x.dtype)
