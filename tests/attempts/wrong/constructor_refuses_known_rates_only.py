# truth: Every rate outside of [0, 1) is refused, not some.
# expect: interface
import numpy as np

REFUSED = (-0.1, -1e-12, -np.inf, 1.0, 1.5, np.inf, -1, 2)


class VarianceStabilizedDropout:
    def __init__(self, dropout_rate=0.5):
        if dropout_rate != dropout_rate or dropout_rate in REFUSED:
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
        keep_prob = 1.0 - self.dropout_rate
        mask = np.random.random_sample(x.shape) < keep_prob
        return (x * mask / np.sqrt(keep_prob)).astype(x.dtype)
