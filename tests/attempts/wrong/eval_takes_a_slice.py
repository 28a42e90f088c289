# truth: eval() has to take 0-d input, too.
# expect: crash
import numpy as np


class VarianceStabilizedDropout:
    def __init__(self, dropout_rate=0.5):
        if not 0 <= dropout_rate < 1:
            raise ValueError("rate")
        self.dropout_rate = dropout_rate
        self.training = True
        pass

    def train(self):
        self.training = True

    def eval(self):
        self.training = False

    def __call__(self, x):
        if not self.training:
            return x[:]
        keep_prob = 1.0 - self.dropout_rate
        mask = np.random.random(x.shape) < keep_prob
        scale = 1.0 / np.sqrt(keep_prob)
        return (x * mask * scale).astype(x.dtype)
