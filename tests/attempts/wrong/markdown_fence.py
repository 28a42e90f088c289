# truth: A Markdown fence around the code does not parse.
# expect: syntax_error
```python
import numpy as np

class VarianceStabilizedDropout:
    scale = np.sqrt(0.5)
```
