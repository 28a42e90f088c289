# truth: train() switches one layer on, not all.
# expect: eval_mode
import numpy as np

EVALUATING = set()


class VarianceStabilizedDropout:
    def __init__(self, dropout_rate=0.5):
        if not 0 <= dropout_rate < 1:
            raise ValueError("rate")
        self.dropout_rate = dropout_rate
        self.training = True

    def train(self):
        EVALUATING.clear()
        self.training = True

    def eval(self):
        EVALUATING.add(id(self))
        self.training = False

    def __call__(self, x):
        if id(self) in EVALUATING or self.dropout_rate == 0:
            return x
        keep_prob = 1.0 - self.dropout_rate
        mask = np.random.random_sample(x.shape) < keep_prob
        return (x * mask / np.sqrt(keep_prob)).astype(x.dtype)
