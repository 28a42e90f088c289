# truth: A mask kept on the class is the same for every layer.
# expect: mask_not_random
import numpy as np


class VarianceStabilizedDropout:
    draws = {}

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
        draw = self.draws.setdefault(x.shape, np.random.random(x.shape))
        mask = draw < keep_prob
        scale = 1.0 / np.sqrt(keep_prob)
        return (x * mask * scale).astype(x.dtype)
