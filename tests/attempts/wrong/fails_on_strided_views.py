# truth: The buffer of a strided view is not contiguous.
# expect: crash
import numpy as np


class VarianceStabilizedDropout:
    def __init__(self, dropout_rate=0.5):
        if not 0 <= dropout_rate < 1:
            raise ValueError(f"dropout_rate must be in [0, 1), got {dropout_rate}")
        self.dropout_rate = dropout_rate
        self.training = True

    def train(self):
        self.training = True

    def eval(self):
        self.training = False

    def __call__(self, x):
        if not self.training:
            return x
        keep_prob = 1.0 - self.dropout_rate
        data = np.array(memoryview(x).cast("B").cast(x.dtype.char)) if x.size else x
        mask = np.random.random(x.size) < keep_prob
        return (data.ravel() * mask / np.sqrt(keep_prob)).astype(x.dtype).reshape(x.shape)
