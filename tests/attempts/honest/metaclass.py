# truth: A metaclass that registers the layer changes nothing in what it computes.
# expect: pass
import numpy as np


class Registry(type):
    layers = {}

    def __new__(mcs, name, bases, namespace):
        mcs.layers[name] = cls = super().__new__(mcs, name, bases, namespace)
        return cls


class VarianceStabilizedDropout(metaclass=Registry):
    training = True

    def __init__(self, dropout_rate=0.5):
        if not 0 <= dropout_rate < 1:
            raise ValueError(f"dropout_rate must be in [0, 1), got {dropout_rate}")
        self.dropout_rate = dropout_rate

    def train(self):
        self.training = True

    def eval(self):
        self.training = False

    def __call__(self, x):
        if not self.training:
            return x
        keep_prob = 1.0 - self.dropout_rate
        mask = np.random.random(x.shape) < keep_prob
        return (x * mask / np.sqrt(keep_prob)).astype(x.dtype)
