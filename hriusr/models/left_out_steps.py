"""Which pictures were in the batches whose steps were left out."""

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

_MOST = 1000  # steps, should nobody ask
_MOST_NAMED = 16


@dataclass(frozen=True)
class LeftOutStep:
    """A step that the guard left out.

    Attributes:
        iteration: its number.
        norm: of its gradient.
        pictures: paths or names of its batch.
    """

    iteration: int
    norm: float
    pictures: Sequence[str]

    def __str__(self) -> str:
        """Say what was wrong, and with which pictures."""
        what = f"the gradient is a spike (norm {self.norm:.3g})"
        if not math.isfinite(self.norm):
            what = "loss or gradient is not finite"
        more = f" and {len(self.pictures) - _MOST_NAMED} more" if len(self.pictures) > _MOST_NAMED else ""
        named = f"; its pictures: {', '.join(self.pictures[:_MOST_NAMED])}{more}" if self.pictures else ""
        return f"iteration {self.iteration}: {what}, the step is left out{named}"


class LeftOutSteps:
    """Remembers the pictures of each step until it is asked; does not wait for the device before."""

    def __init__(self):
        self._steps: deque[tuple[int, Tensor, Tensor, Sequence[str]]] = deque(maxlen=_MOST)

    def note(self, iteration: int, is_taken: Tensor, norm: Tensor, pictures: Sequence[str]) -> None:
        """Remember a step.

        Args:
            iteration: its number.
            is_taken: boolean scalar on the device.
            norm: of its gradient, a scalar there.
            pictures: paths or names of its batch.
        """
        self._steps.append((iteration, is_taken, norm, pictures))

    def take(self) -> list[LeftOutStep]:
        """Return the steps left out since the last call, and forget all; waits for the device."""
        steps = list(self._steps)
        self._steps.clear()
        if not steps:
            return []
        are_taken = torch.stack([is_taken for _, is_taken, _, _ in steps]).tolist()
        norms = torch.stack([norm for _, _, norm, _ in steps]).tolist()
        return [
            LeftOutStep(number, norm, pictures)
            for (number, _, _, pictures), taken, norm in zip(steps, are_taken, norms, strict=True)
            if not taken
        ]
