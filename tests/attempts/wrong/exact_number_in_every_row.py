# truth: A fixed number of survivors in every row is no independent drawing.
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
        if x.ndim == 0:
            keep = np.random.random_sample() < q
        else:
            n = x.shape[-1]
            rank = np.argsort(np.argsort(np.random.random_sample(x.shape), axis=-1), axis=-1)
            k = np.floor(n * q + np.random.random_sample(x.shape[:-1] + (1,)))
            keep = rank < k
        return (x * keep * s).astype(x.dtype)
