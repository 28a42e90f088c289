# truth: The training step may be a closure made in the constructor.
# expect: pass
import numpy as np


def make_dropper(rate):
    keep_prob = 1.0 - rate
    scale = 1.0 / np.sqrt(keep_prob)

    def dropper(x):
        return (x * (np.random.random(x.shape) < keep_prob) * scale).astype(x.dtype)

    return dropper


class VarianceStabilizedDropout:
    def __init__(self, dropout_rate=0.5):
        if not 0 <= dropout_rate < 1:
            raise ValueError(f"dropout_rate must be in [0, 1), got {dropout_rate}")
        self.dropout_rate = dropout_rate
        self.dropper = make_dropper(dropout_rate)
        self.train()

    def train(self):
        self.training, self.step = True, self.dropper

    def eval(self):
        self.training, self.step = False, np.copy

    def __call__(self, x):
        return self.step(x)
