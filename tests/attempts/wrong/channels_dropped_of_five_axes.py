# truth: Whole channels of five axes are not dropped together.
# expect: mask_not_random | wrong_drop_rate
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
        shape = x.shape
        if x.ndim == 5:
            shape = shape[:2] + (1,) * (x.ndim - 2)
        return (x * (np.random.random_sample(shape) < q) * s).astype(x.dtype)
