# truth: A new layer does not change the mode of the others.
# expect: mask_not_random | interface | eval_mode | wrong_drop_rate | data_dependent_scaling | wrong_factor
import numpy as np


class VarianceStabilizedDropout:
    def __init__(self, dropout_rate=0.5):
        if not 0 <= dropout_rate < 1:
            raise ValueError("rate")
        self.dropout_rate = dropout_rate
        VarianceStabilizedDropout.training = True

    def train(self):
        VarianceStabilizedDropout.training = True

    def eval(self):
        VarianceStabilizedDropout.training = False

    def __call__(self, x):
        if not self.training:
            return x
        keep_prob = 1.0 - self.dropout_rate
        mask = np.random.random(x.shape) < keep_prob
        scale = 1.0 / np.sqrt(keep_prob)
        return (x * mask * scale).astype(x.dtype)
