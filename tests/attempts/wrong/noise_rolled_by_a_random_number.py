# truth: Arrays of one size get the same numbers, rolled: masks are not fresh.
# expect: mask_not_random
import numpy as np

_NOISE = {}

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
        if x.size not in _NOISE:
            _NOISE[x.size] = np.random.random_sample(x.size)
        moved = np.random.randint(0, x.size + 1)
        u = np.roll(_NOISE[x.size], moved).reshape(x.shape)
        return (x * (u < q) * s).astype(x.dtype)
