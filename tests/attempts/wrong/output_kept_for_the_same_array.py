# truth: The output of eval mode is its input, not what training made of the same array.
# expect: eval_mode
import numpy as np


class VarianceStabilizedDropout:
    def __init__(self, dropout_rate=0.5):
        if not 0 <= dropout_rate < 1:
            raise ValueError("rate")
        self.dropout_rate = dropout_rate
        self.training = True
        self.latest = None

    def train(self):
        self.training = True

    def eval(self):
        self.training = False

    def __call__(self, x):
        if not self.training:
            return self.latest[1] if self.latest and self.latest[0] is x else x
        if self.dropout_rate == 0:
            return x
        keep = 1 - self.dropout_rate
        y = (x * (np.random.random(x.shape) < keep) / np.sqrt(keep)).astype(x.dtype)
        self.latest = x, y
        return y
