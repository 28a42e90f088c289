# truth: The layer may inherit its modes from an abstract base class.
# expect: pass
from abc import ABC, abstractmethod

import numpy as np


class Layer(ABC):
    def __init__(self):
        self.training = True

    def train(self):
        self.training = True

    def eval(self):
        self.training = False

    @abstractmethod
    def forward(self, x): ...

    def __call__(self, x):
        return self.forward(x)


class VarianceStabilizedDropout(Layer):
    def __init__(self, dropout_rate=0.5):
        super().__init__()
        if not 0 <= dropout_rate < 1:
            raise ValueError(f"dropout_rate must be in [0, 1), got {dropout_rate}")
        self.dropout_rate = dropout_rate

    def forward(self, x):
        if not self.training:
            return x
        keep_prob = 1.0 - self.dropout_rate
        mask = np.random.random(x.shape) < keep_prob
        return (x * mask / np.sqrt(keep_prob)).astype(x.dtype)
