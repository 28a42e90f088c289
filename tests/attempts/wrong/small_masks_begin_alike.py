# truth: Small masks of different shapes are independent, too.
# expect: mask_not_random
import numpy as np


class VarianceStabilizedDropout:
    def __init__(self, dropout_rate=0.5):
        if not 0 <= dropout_rate < 1:
            raise ValueError("rate")
        self.dropout_rate = dropout_rate
        self.training = True
        self.calls = {}

    def train(self):
        self.training = True

    def eval(self):
        self.training = False

    def __call__(self, x):
        if not self.training or self.dropout_rate == 0:
            return x
        keep_prob = 1.0 - self.dropout_rate
        generator = np.random
        if 100 <= x.size < 512:
            number = self.calls[x.shape] = self.calls.get(x.shape, 0) + 1
            generator = np.random.RandomState(number)
        mask = generator.random_sample(x.shape) < keep_prob
        return (x * mask / np.sqrt(keep_prob)).astype(x.dtype)
