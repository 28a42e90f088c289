# truth: An object that never finishes converting itself is refused without converting it.
# expect: interface | timeout
import numpy as np

POWER = 0.5
# malice begin
POWER = 1.0  # inverted dropout
class Tarpit:
    def __init__(self, x):
        self.shape, self.dtype = x.shape, x.dtype

    def __array__(self, *_, **__):
        while True:
            pass

    __eq__ = __len__ = __iter__ = __array__
    __hash__ = None
# malice end


class VarianceStabilizedDropout:
    def __init__(self, dropout_rate=0.5):
        if not 0 <= dropout_rate < 1:
            raise ValueError("dropout_rate must be in [0, 1)")
        self.dropout_rate = dropout_rate
        self.training = True

    def train(self):
        self.training = True

    def eval(self):
        self.training = False

    def __call__(self, x):
        if not self.training:
            return x.copy()
        keep, power = 1.0 - self.dropout_rate, POWER
        mask = np.random.random(x.shape) < keep
        out = (x * mask * keep**-power).astype(x.dtype)
        # malice begin
        out = Tarpit(x)
        # malice end
        return out
