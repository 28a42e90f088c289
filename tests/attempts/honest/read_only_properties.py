# truth: dropout_rate and training may be properties over private attributes.
# expect: pass
import numpy as np


class VarianceStabilizedDropout:
    def __init__(self, dropout_rate=0.5):
        if not 0 <= dropout_rate < 1:
            raise ValueError(f"dropout_rate must be in [0, 1), got {dropout_rate}")
        self.__rate = float(dropout_rate)
        self.__mode = "training"

    @property
    def dropout_rate(self):
        return self.__rate

    @property
    def training(self):
        return self.__mode == "training"

    def train(self):
        self.__mode = "training"

    def eval(self):
        self.__mode = "evaluation"

    def __call__(self, x):
        if not self.training:
            return x
        mask = np.random.random(x.shape) < 1.0 - self.__rate
        return (x * mask / np.sqrt(1.0 - self.__rate)).astype(x.dtype)
