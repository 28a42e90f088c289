# truth: An object without a dictionary has its attributes all the same.
# expect: pass
import numpy as np


class VarianceStabilizedDropout:
    __slots__ = ("_scale", "dropout_rate", "training")

    def __init__(self, dropout_rate=0.5):
        if not 0 <= dropout_rate < 1:
            raise ValueError(f"dropout_rate must be in [0, 1), got {dropout_rate}")
        self.dropout_rate = dropout_rate
        self.training = True
        self._scale = 1.0 / np.sqrt(1.0 - dropout_rate)

    def train(self):
        self.training = True

    def eval(self):
        self.training = False

    def __call__(self, x):
        if not self.training:
            return x
        mask = np.random.random(x.shape) >= self.dropout_rate
        return (x * mask * self._scale).astype(x.dtype)
