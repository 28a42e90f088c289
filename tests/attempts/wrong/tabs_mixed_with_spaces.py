# truth: Tabs and spaces mixed in one block do not parse.
# expect: syntax_error
import numpy as np


class VarianceStabilizedDropout:
    def __init__(self, dropout_rate=0.5):
	self.dropout_rate = dropout_rate
        self.scale = np.sqrt(1 - dropout_rate)
