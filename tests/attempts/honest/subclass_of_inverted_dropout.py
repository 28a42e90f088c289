# truth: A subclass may replace the factor of the ordinary inverted dropout it inherits from.
# expect: pass
import numpy as np


class InvertedDropout:
    def __init__(self, dropout_rate=0.5):
        if not 0 <= dropout_rate < 1:
            raise ValueError(f"dropout_rate must be in [0, 1), got {dropout_rate}")
        self.dropout_rate = dropout_rate
        self.training = True

    def train(self):
        self.training = True

    def eval(self):
        self.training = False

    def factor(self, keep_prob):
        return 1.0 / keep_prob

    def __call__(self, x):
        if not self.training:
            return x
        keep_prob = 1.0 - self.dropout_rate
        mask = np.random.random(x.shape) < keep_prob
        return (x * mask * self.factor(keep_prob)).astype(x.dtype)


class VarianceStabilizedDropout(InvertedDropout):
    def factor(self, keep_prob):
        return super().factor(keep_prob) ** 0.5
