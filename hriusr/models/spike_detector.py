"""Steps whose gradient is far larger than those before: usually a faulty picture or the start of a divergence."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

_WINDOW = 128
_FEWEST = 32  # norms before the first judgement: at the start of a training they fall by orders of magnitude


class SpikeDetector:
    """Compares the norm of a gradient with the median of the last 128 finite ones; never waits for the device.

    Spikes enter the median too: if gradients grow for good, steps are taken again after at most half a window.
    """

    def __init__(self, factor: float, device: torch.device):
        """Start without any norm.

        Args:
            factor: a norm above factor * median is a spike; more than 1.
            device: of the norms.
        """
        self.factor = factor
        self.norms = torch.full((_WINDOW,), torch.nan, device=device)
        self.count = torch.zeros((), dtype=torch.int64, device=device)
        self.total = torch.zeros((), dtype=torch.int64, device=device)

    def is_spike(self, norm: Tensor) -> Tensor:
        """Judge a norm and remember it, unless it is not finite.

        Args:
            norm: of a gradient, a scalar.

        Returns:
            A boolean scalar on the device; False for norms that are not finite.
        """
        is_finite = torch.isfinite(norm)
        median = torch.nanmedian(self.norms)
        spike = is_finite & (self.count >= _FEWEST) & (norm > self.factor * median)
        position = (torch.arange(_WINDOW, device=norm.device) == self.count % _WINDOW) & is_finite
        self.norms = torch.where(position, norm.to(self.norms.dtype), self.norms)
        self.count += is_finite
        self.total += spike
        return spike

    def state_dict(self) -> dict[str, Any]:
        """Return all as numbers; waits for the device."""
        count = int(self.count)
        return {"norms": self.norms[:count].tolist(), "count": count, "total": int(self.total)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over norms and counters."""
        self.norms.fill_(torch.nan)[: len(state["norms"])] = torch.tensor(state["norms"])
        self.count.fill_(state["count"])
        self.total.fill_(state["total"])
