# truth: A file of comments defines no layer.
# expect: interface
# class VarianceStabilizedDropout: scale = 1.0 / np.sqrt(keep_prob)
