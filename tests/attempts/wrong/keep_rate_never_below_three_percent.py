# truth: A rate close to 1 drops as many units as it says.
# expect: wrong_drop_rate
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
        if not self.training or self.dropout_rate == 0:
            return x
        keep_prob = 1.0 - self.dropout_rate
        mask = np.random.random_sample(x.shape) < max(keep_prob, 0.03)
        return (x * mask / np.sqrt(keep_prob)).astype(x.dtype)
