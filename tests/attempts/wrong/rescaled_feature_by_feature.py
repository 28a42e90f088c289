# truth: A factor for each feature over the batch, from its own energy, depends on the data.
# expect: data_dependent_scaling | interface
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
        out = x * mask
        if x.ndim < 2 or x.size == 0:
            return (out / np.sqrt(keep_prob)).astype(x.dtype)
        energy = np.square(out).sum(axis=0)
        return (out * np.sqrt(np.square(x).sum(axis=0) / np.where(energy == 0, 1, energy))).astype(x.dtype)
