# truth: A self-test under the main guard does not run when the module is imported.
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

    def __call__(self, x):
        if not self.training or self.dropout_rate == 0:
            return x
        keep_prob = 1.0 - self.dropout_rate
        mask = np.random.random(x.shape) < keep_prob
        scale = 1.0 / np.sqrt(keep_prob)
        return (x * mask * scale).astype(x.dtype)


if __name__ == "__main__":
    sample = np.random.standard_normal(100_000)
    for rate in (0.3, 0.5, 0.7):
        assert abs(VarianceStabilizedDropout(rate)(sample).var() / sample.var() - 1.0) < 0.1
    raise SystemExit("all variances preserved")
