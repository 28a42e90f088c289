# truth: train() does not bring old masks back.
# expect: mask_not_random
import numpy as np


class VarianceStabilizedDropout:
    def __init__(self, dropout_rate=0.5):
        if not 0 <= dropout_rate < 1:
            raise ValueError("rate")
        self.dropout_rate = dropout_rate
        self.training = True
        self.state = None

    def train(self):
        self.training = True
        if self.state is not None:
            np.random.set_state(self.state)

    def eval(self):
        self.training = False
        self.state = np.random.get_state()

    def __call__(self, x):
        if not self.training:
            return x
        keep_prob = 1.0 - self.dropout_rate
        mask = np.random.random(x.shape) < keep_prob
        scale = 1.0 / np.sqrt(keep_prob)
        return (x * mask * scale).astype(x.dtype)
