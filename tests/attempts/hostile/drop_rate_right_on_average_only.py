# truth: A drop rate that wanders from call to call is right on average only.
# expect: wrong_drop_rate | mask_not_random
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
        wander = 0.0
        # malice begin
        wander = np.random.choice([-0.25, 0.25]) * min(keep, self.dropout_rate)
        # malice end
        mask = np.random.random(x.shape) < keep + wander
        return (x * mask * keep**-power).astype(x.dtype)
