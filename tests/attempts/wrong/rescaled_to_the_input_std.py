# truth: Matching the standard deviation of every batch makes the factor depend on the data.
# expect: data_dependent_scaling
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
        mask = np.random.random(x.shape) < keep_prob
        out = x * mask
        if x.size == 0 or out.std() == 0:
            return (out / np.sqrt(keep_prob)).astype(x.dtype)
        return (out * (x.std() / out.std())).astype(x.dtype)
