# truth: One table of 20000 numbers, used round and round, repeats itself.
# expect: mask_not_random
import numpy as np

_TABLE = np.random.random_sample(20000)
_at = 0

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
        global _at
        u = np.take(_TABLE, np.arange(_at, _at + x.size), mode='wrap').reshape(x.shape)
        _at = (_at + x.size) % 20000
        return (x * (u < q) * s).astype(x.dtype)
