# truth: Bytes that are no UTF-8 cannot be decoded without a coding cookie.
# expect: syntax_error
import numpy as np

NAME = "régularisation"


class VarianceStabilizedDropout:
    pass
