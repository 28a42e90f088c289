# truth: So it is beside fields and methods called pow.
# expect: pass
import numpy as np


class Exponents:
    pow = -0.5

    def sqrt(self):
        return 0.5


class VarianceStabilizedDropout:
    def __init__(self, dropout_rate=0.5):
        if not 0 <= dropout_rate < 1:
            raise ValueError(f"dropout_rate must be in [0, 1), got {dropout_rate}")
        self.dropout_rate = dropout_rate
        self.training = True
        self.pow = None

    def train(self):
        self.training = True

    def eval(self):
        self.training = False

    def __call__(self, x):
        if not self.training or self.dropout_rate == 0:
            return x
        keep_prob = 1.0 - self.dropout_rate
        mask = np.random.random(x.shape) < keep_prob
        scale = pow(keep_prob, getattr(Exponents, "pow"))
        return (x * mask * scale).astype(x.dtype)
