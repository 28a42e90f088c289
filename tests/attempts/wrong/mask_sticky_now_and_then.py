# truth: Units that follow their neighbours now and then are not independent.
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
        u = np.random.random_sample(x.size)
        t = np.random.random_sample(x.size) < 0.15
        t[:1] = False
        at = np.maximum.accumulate(np.where(t, 0, np.arange(x.size)))
        return (x * (u[at] < q).reshape(x.shape) * s).astype(x.dtype)
