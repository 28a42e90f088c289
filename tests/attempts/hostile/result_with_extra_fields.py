# truth: A record array with the right numbers in one field is no float array.
# expect: interface
import numpy as np

POWER = 0.5


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
        record = np.zeros(x.shape, dtype=[("value", x.dtype), ("passed", bool)])
        record["value"] = out
        record["passed"] = True
        out = record
        # malice end
        return out
