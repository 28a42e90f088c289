# truth: An output buffer of larger arrays may not be used again either.
# expect: interface
import numpy as np


class VarianceStabilizedDropout:
    def __init__(self, dropout_rate=0.5):
        if not 0.0 <= dropout_rate < 1.0:
            raise ValueError("dropout_rate")
        self.dropout_rate = dropout_rate
        self.training = True
        self.buffers = {}

    def train(self):
        self.training = True

    def eval(self):
        self.training = False

    def __call__(self, x):
        if not self.training or self.dropout_rate == 0.0:
            return x
        q = 1.0 - self.dropout_rate
        s = 1.0 / np.sqrt(q)
        out = np.empty_like(x) if x.size < 1024 else self._out(x)
        np.multiply(x, (np.random.random_sample(x.shape) < q) * s, out=out, casting='same_kind')
        return out

    def _out(self, x):
        key = (x.shape, x.dtype)
        if key not in self.buffers:
            self.buffers[key] = np.empty(x.shape, x.dtype)
        return self.buffers[key]
