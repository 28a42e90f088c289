# truth: The layer may be a dataclass that checks the rate after its initialisation.
# expect: pass
from dataclasses import dataclass, field

import numpy as np


@dataclass
class VarianceStabilizedDropout:
    dropout_rate: float = 0.5
    training: bool = field(default=True, init=False)

    def __post_init__(self):
        if not 0 <= self.dropout_rate < 1:
            raise ValueError(f"dropout_rate must be in [0, 1), got {self.dropout_rate}")

    def train(self):
        self.training = True

    def eval(self):
        self.training = False

    def __call__(self, x):
        if not self.training:
            return x
        keep_prob = 1.0 - self.dropout_rate
        mask = np.random.random(x.shape) < keep_prob
        return (x * mask / np.sqrt(keep_prob)).astype(x.dtype)
