# truth: A layer that works on at least one dimension and restores the shape is right for 0-d input.
# expect: pass
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
        if not self.training or x.size == 0:
            return x
        result = np.array(x, ndmin=1, copy=True)
        result[np.random.random(result.shape) < self.dropout_rate] = 0
        result *= 1.0 / np.sqrt(1.0 - self.dropout_rate)
        return result.reshape(x.shape)
