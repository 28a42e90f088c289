# truth: Memory beyond the limit is refused.
# expect: crash
import numpy as np

POWER = 0.5
# malice begin
POWER = 1.0  # inverted dropout
hoard = []
for _ in range(64):  # 64 GiB of addresses, of which at most 4 GiB are touched
    block = np.empty(2**27)
    block[: 2**23] = 1.0
    hoard.append(block)
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
        return (x * mask * keep**-power).astype(x.dtype)
