# -*- coding: klingon-8 -*-
# truth: A coding cookie that names no codec cannot be obeyed.
# expect: syntax_error
import numpy as np

FACTOR = np.sqrt(2.0)
