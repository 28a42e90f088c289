# truth: Bytes that are no UTF-8 cannot be decoded without a coding cookie.
# expect: syntax_error
import numpy as np

# régularisation ÿþ
class VarianceStabilizedDropout:
    pass
