# truth: Random bytes may come from the device.
# expect: pass
import numpy as np


class VarianceStabilizedDropout:
    def __init__(self, dropout_rate=0.5):
        if not 0 <= dropout_rate < 1:
            raise ValueError("rate")
        self.dropout_rate = dropout_rate
        self.training = True

    def train(self):
        self.training = True

    def eval(self):
        self.training = False

    def __call__(self, x):
        if not self.training or self.dropout_rate == 0:
            return x
        p = self.dropout_rate
        with open("/dev/urandom", "rb") as f:
            u = np.frombuffer(f.read(4 * x.size), np.uint32).reshape(x.shape)
        keep = u >= p * 2.0 ** 32
        return (x * keep / np.sqrt(1 - p)).astype(x.dtype)
