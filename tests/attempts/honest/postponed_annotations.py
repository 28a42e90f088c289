# truth: Type hints that stay strings, on a slotted dataclass, need the module to be findable by name.
# expect: pass
from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, get_type_hints

import numpy as np
import numpy.typing as npt


@dataclass(slots=True)
class VarianceStabilizedDropout:
    dropout_rate: float = 0.5
    training: bool = True
    EXPONENT: ClassVar[float] = -0.5

    def __post_init__(self) -> None:
        if not 0 <= self.dropout_rate < 1:
            raise ValueError(f"dropout_rate must be in [0, 1), got {self.dropout_rate}")

    def train(self) -> None:
        self.training = True

    def eval(self) -> None:
        self.training = False

    def __call__(self, x: npt.NDArray[np.floating]) -> npt.NDArray[np.floating]:
        if not self.training:
            return x
        keep_prob: float = 1.0 - self.dropout_rate
        mask = np.random.random(x.shape) < keep_prob
        return (x * mask * keep_prob**self.EXPONENT).astype(x.dtype)


assert get_type_hints(VarianceStabilizedDropout)["dropout_rate"] is float
