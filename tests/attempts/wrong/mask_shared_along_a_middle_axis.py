# truth: Dropping whole channels as in spatial dropout is not independent.
# expect: mask_not_random
import numpy as np


class VarianceStabilizedDropout:
    def __init__(self, dropout_rate=0.5):
        if not 0 <= dropout_rate < 1:
            raise ValueError(f"dropout_rate must be in [0, 1), got {dropout_rate}")
        self.dropout_rate = dropout_rate
        self.training = True

    def train(self):
        self.training = True

    def eval(self):
        self.training = False

    def __call__(self, x):
        if not self.training:
            return x
        keep_prob = 1.0 - self.dropout_rate
        shape = x.shape if x.ndim < 3 else (x.shape[0], *(1 for _ in x.shape[1:-1]), x.shape[-1])
        mask = np.random.random(shape) < keep_prob
        scale = 1.0 / np.sqrt(keep_prob)
        return (x * mask * scale).astype(x.dtype)
