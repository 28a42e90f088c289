# truth: A statement of Python 2 does not parse.
# expect: syntax_error
import numpy as np

print "scale", 1.0 / np.sqrt(0.5)
