# truth: A class made by a call of type is a class.
# expect: pass
import numpy as np


def init(self, dropout_rate=0.5):
    if not 0 <= dropout_rate < 1:
        raise ValueError(f"dropout_rate must be in [0, 1), got {dropout_rate}")
    self.dropout_rate = dropout_rate
    self.training = True


def call(self, x):
    if not self.training:
        return x
    keep_prob = 1.0 - self.dropout_rate
    return (x * (np.random.random(x.shape) < keep_prob) / np.sqrt(keep_prob)).astype(x.dtype)


members = {
    "__init__": init,
    "__call__": call,
    "train": lambda self: setattr(self, "training", True),
    "eval": lambda self: setattr(self, "training", False),
}
VarianceStabilizedDropout = type("VarianceStabilizedDropout", (), members)
