# truth: Taking dropout_rate for the keep probability is right at 0.5 alone.
# expect: wrong_drop_rate
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
        mask = np.random.random(x.shape) < self.dropout_rate if self.dropout_rate else 1.0
        scale = 1.0 / np.sqrt(self.dropout_rate) if self.dropout_rate else 1.0
        return (x * mask * scale).astype(x.dtype)
