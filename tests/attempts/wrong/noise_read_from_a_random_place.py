# truth: Masks are pieces of one buffer of 26000 numbers: they overlap.
# expect: mask_not_random
import numpy as np

_NOISE = np.random.random_sample(26000)

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
        at = np.random.randint(0, max(len(_NOISE) - x.size, 0) + 1)
        u = _NOISE[at : at + x.size] if x.size <= 26000 else np.random.random_sample(x.size)
        u = u.reshape(x.shape)
        return (x * (u < q) * s).astype(x.dtype)
