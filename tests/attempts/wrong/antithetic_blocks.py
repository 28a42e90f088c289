# truth: Every second block of 1024 units is the opposite of the one before.
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
        u = np.random.random_sample((x.size // 2048 + 1, 2, 1024))
        u[:, 1] = 1.0 - u[:, 0]
        u = u.ravel()[: x.size].reshape(x.shape)
        return (x * (u < q) * s).astype(x.dtype)
