# truth: Optional constructor arguments after dropout_rate are allowed.
# expect: pass
import numpy as np


class VarianceStabilizedDropout:
    def __init__(self, dropout_rate=0.5, seed=None, *, rng=None):
        if not 0 <= dropout_rate < 1:
            raise ValueError(f"dropout_rate must be in [0, 1), got {dropout_rate}")
        self.dropout_rate = dropout_rate
        self.training = True
        self.rng = np.random.default_rng(seed) if rng is None else rng

    def train(self, mode=True):
        self.training = bool(mode)
        return self

    def eval(self):
        return self.train(False)

    def __call__(self, x, training=None):
        training = self.training if training is None else training
        if not training:
            return x
        keep_prob = 1.0 - self.dropout_rate
        mask = self.rng.random(x.shape) < keep_prob
        return (x * mask / np.sqrt(keep_prob)).astype(x.dtype)
