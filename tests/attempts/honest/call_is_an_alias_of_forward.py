# truth: __call__ may be another name of forward.
# expect: pass
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

    def forward(self, inputs):
        if not self.training:
            return inputs
        keep_prob = 1.0 - self.dropout_rate
        mask = np.random.random(inputs.shape) < keep_prob
        return (inputs * mask / np.sqrt(keep_prob)).astype(inputs.dtype)

    __call__ = forward
