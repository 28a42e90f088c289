# truth: Code that parses but does not compile is a syntax error.
# expect: syntax_error
import numpy as np

return 1.0 / np.sqrt(0.5)
