# truth: A fixed number of survivors in every 64 units is no independent drawing.
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
        n = x.size
        g = -(-n // 64)
        strata = np.argsort(np.random.random_sample((g, 64)), axis=1)
        u = ((strata + np.random.random_sample((g, 1))) / 64).ravel()[:n].reshape(x.shape)
        return (x * (u < q) * s).astype(x.dtype)
