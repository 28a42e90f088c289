# truth: The factor that would preserve the variance of data with a mean depends on that mean.
# expect: data_dependent_scaling
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
        if not self.training:
            return x
        keep_prob = 1.0 - self.dropout_rate
        mask = np.random.random(x.shape) < keep_prob
        second = np.square(x).mean() if x.size else 1.0
        first = np.square(x.mean()) if x.size > 1 else 0.0
        wanted, got = second - first, keep_prob * second - keep_prob**2 * first
        scale = np.sqrt(wanted / got if wanted > 0 else 1.0 / keep_prob)
        return (x * mask * scale).astype(x.dtype)
