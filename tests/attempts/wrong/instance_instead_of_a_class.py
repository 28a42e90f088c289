# truth: A ready-made layer under the name of the class cannot be constructed with another rate.
# expect: interface | crash
import numpy as np


class Dropout:
    def __init__(self, dropout_rate):
        self.dropout_rate = dropout_rate
        self.training = True

    def train(self):
        self.training = True

    def eval(self):
        self.training = False

    def __call__(self, x):
        mask = np.random.random(x.shape) >= self.dropout_rate
        return (x * mask / np.sqrt(1.0 - self.dropout_rate)).astype(x.dtype)


VarianceStabilizedDropout = Dropout(0.5)
