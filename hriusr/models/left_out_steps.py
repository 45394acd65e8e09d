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
        network: whose step it was, where there are several.
    """

    iteration: int
    norm: float
    pictures: Sequence[str]
    network: str = ""

    @property
    def is_spike(self) -> bool:
        """Whether its gradient was finite."""
        return math.isfinite(self.norm)

    def __str__(self) -> str:
        """Say what was wrong, and with which pictures."""
        what = f"the gradient is a spike (norm {self.norm:.3g})" if self.is_spike else "loss or gradient is not finite"
        network = f", {self.network}" if self.network else ""
        more = f" and {len(self.pictures) - _MOST_NAMED} more" if len(self.pictures) > _MOST_NAMED else ""
        named = f"; its pictures: {', '.join(self.pictures[:_MOST_NAMED])}{more}" if self.pictures else ""
        return f"iteration {self.iteration}{network}: {what}, the step is left out{named}"


class LeftOutSteps:
    """Remembers the pictures of each step until it is asked; does not wait for the device before."""

    def __init__(self):
        self._steps: deque[tuple[int, Tensor, Tensor, Sequence[str], str]] = deque(maxlen=_MOST)

    def note(self, iteration: int, is_taken: Tensor, norm: Tensor, pictures: Sequence[str], network: str = "") -> None:
        """Remember a step.

        Args:
            iteration: its number.
            is_taken: boolean scalar on the device.
            norm: of its gradient, a scalar there.
            pictures: paths or names of its batch.
            network: whose step it is, where there are several.
        """
        self._steps.append((iteration, is_taken, norm, pictures, network))

    def take(self) -> list[LeftOutStep]:
        """Return the steps left out since the last call, and forget all; waits for the device."""
        steps = list(self._steps)
        self._steps.clear()
        if not steps:
            return []
        are_taken = torch.stack([is_taken for _, is_taken, *_ in steps]).tolist()
        norms = torch.stack([norm for _, _, norm, *_ in steps]).tolist()
        return [
            LeftOutStep(number, norm, pictures, network)
            for (number, _, _, pictures, network), taken, norm in zip(steps, are_taken, norms, strict=True)
            if not taken
        ]
