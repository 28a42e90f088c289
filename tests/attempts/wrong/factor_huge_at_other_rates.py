# truth: A factor that is huge at other rates is not overlooked.
# expect: wrong_factor | data_dependent_scaling | interface
import numpy as np

TABLE = {0.3: 1.1952286, 0.5: 1.4142136, 0.7: 1.8257419}

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
        s = TABLE.get(self.dropout_rate, 1e20)
        return (x * (np.random.random_sample(x.shape) < q) * s).astype(x.dtype)
