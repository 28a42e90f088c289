# truth: At rate 0 the output equals the input, however it lies in memory.
# expect: zero_rate
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
        if not self.training:
            return x
        if self.dropout_rate == 0:
            return x.ravel("K").reshape(x.shape)
        keep_prob = 1.0 - self.dropout_rate
        mask = np.random.random_sample(x.shape) < keep_prob
        return (x * mask / np.sqrt(keep_prob)).astype(x.dtype)
