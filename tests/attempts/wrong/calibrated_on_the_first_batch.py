# truth: A factor measured on the first batch and kept from then on depends on the data.
# expect: data_dependent_scaling
import numpy as np


class VarianceStabilizedDropout:
    def __init__(self, dropout_rate=0.5):
        if not 0 <= dropout_rate < 1:
            raise ValueError(f"dropout_rate must be in [0, 1), got {dropout_rate}")
        self.dropout_rate = dropout_rate
        self.training = True
        self.scale = None

    def train(self):
        self.training = True

    def eval(self):
        self.training = False

    def __call__(self, x):
        if not self.training:
            return x
        keep_prob = 1.0 - self.dropout_rate
        mask = np.random.random(x.shape) < keep_prob
        if self.scale is None and x.size > 1:
            out = x * mask
            self.scale = float(x.std() / out.std()) if out.std() > 0 else None
        scale = self.scale or keep_prob**-0.5
        return (x * mask * scale).astype(x.dtype)
