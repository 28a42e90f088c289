# truth: Class methods and static methods may do the arithmetic.
# expect: pass
import numpy as np


class VarianceStabilizedDropout:
    def __init__(self, dropout_rate=0.5):
        self.dropout_rate = self.checked(dropout_rate)
        self.training = True

    @staticmethod
    def checked(rate):
        if not 0 <= rate < 1:
            raise ValueError(f"dropout_rate must be in [0, 1), got {rate}")
        return rate

    @classmethod
    def stabilise(cls, x, rate):
        return x * cls.mask(x.shape, rate) / np.sqrt(1.0 - rate)

    @classmethod
    def mask(cls, shape, rate):
        return np.random.random(shape) >= rate

    def train(self):
        self.training = True

    def eval(self):
        self.training = False

    def __call__(self, x):
        return self.stabilise(x, self.dropout_rate).astype(x.dtype) if self.training else x
