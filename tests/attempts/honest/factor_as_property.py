# truth: The factor may be a property computed anew at every call.
# expect: pass
import numpy as np


class VarianceStabilizedDropout:
    def __init__(self, dropout_rate=0.5):
        if not 0 <= dropout_rate < 1:
            raise ValueError(f"dropout_rate must be in [0, 1), got {dropout_rate}")
        self.dropout_rate = dropout_rate
        self.training = True

    @property
    def keep_prob(self):
        return 1.0 - self.dropout_rate

    @property
    def scale(self):
        return 1.0 / np.sqrt(self.keep_prob)

    def train(self):
        self.training = True

    def eval(self):
        self.training = False

    def __call__(self, x):
        if not self.training:
            return np.array(x)
        mask = np.random.random(x.shape) < self.keep_prob
        return (x * mask * self.scale).astype(x.dtype)
