# truth: The second half of a mask is not the first one mirrored.
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
        h = x.size // 2
        if h:
            u[-h:] = u[:h][::-1]
        return (x * (u < q).reshape(x.shape) * s).astype(x.dtype)
