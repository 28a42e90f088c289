# truth: A generator seeded from the process and the clock is as random as any.
# expect: pass
import numpy as np

import os, time

class VarianceStabilizedDropout:
    def __init__(self, dropout_rate=0.5):
        if not 0.0 <= dropout_rate < 1.0:
            raise ValueError("dropout_rate")
        self.dropout_rate = dropout_rate
        self.training = True

    def train(self):
        self.training = True

    def eval(self):
        self.training = False

    def __call__(self, x):
        if not self.training or self.dropout_rate == 0.0:
            return x
        q = 1.0 - self.dropout_rate
        s = 1.0 / np.sqrt(q)
        rng = np.random.default_rng([os.getpid(), time.time_ns()])
        return (x * (rng.random(x.shape) < q) * s).astype(x.dtype)
