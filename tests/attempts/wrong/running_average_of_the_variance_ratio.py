# truth: A factor from running statistics, as in batch normalisation, depends on the data.
# expect: data_dependent_scaling
import numpy as np


class VarianceStabilizedDropout:
    def __init__(self, dropout_rate=0.5):
        if not 0 <= dropout_rate < 1:
            raise ValueError(f"dropout_rate must be in [0, 1), got {dropout_rate}")
        self.dropout_rate = dropout_rate
        self.training = True
        self.ratio = None

    def train(self):
        self.training = True

    def eval(self):
        self.training = False

    def __call__(self, x):
        if not self.training:
            return x
        keep_prob = 1.0 - self.dropout_rate
        mask = np.random.random(x.shape) < keep_prob
        out = x * mask
        if x.size > 1 and np.var(out) > 0:
            ratio = float(np.var(x) / np.var(out))
            self.ratio = ratio if self.ratio is None else 0.9 * self.ratio + 0.1 * ratio
        scale = np.sqrt(self.ratio or 1.0 / keep_prob)
        return (x * mask * scale).astype(x.dtype)
