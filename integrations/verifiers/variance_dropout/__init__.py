from variance_dropout.taskset import VarianceDropoutTaskset

__all__ = ["VarianceDropoutTaskset"]
