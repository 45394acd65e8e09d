"""Mean losses between two log lines, summed on the device so that no step waits for it."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from hriusr.models.parallel import mean_over_processes


class LogMeans:
    """Sums of named scalars over steps; part of the training state, so that a resumed run logs the same means."""

    def __init__(self, device: torch.device):
        self.device = device
        self.sums: dict[str, Tensor] = {}
        self.missed: dict[str, Tensor] = {}  # steps before the first of a loss, which may begin between two lines
        self.num_steps = torch.zeros((), dtype=torch.int64, device=device)

    def add(self, values: Mapping[str, Tensor], is_finite: Tensor) -> None:
        """Count a step.

        Args:
            values: detached scalars.
            is_finite: boolean scalar; a step whose gradient is not finite is left out of the means.
        """
        for name, value in values.items():
            value = torch.where(is_finite, value.double(), 0.0)
            if name not in self.sums:
                self.missed[name] = self.num_steps.clone()
            self.sums[name] = self.sums[name] + value if name in self.sums else value
        self.num_steps += is_finite

    def take(self) -> dict[str, float]:
        """Return the means and start anew; NaN when every step was left out."""
        self.average_over_processes()
        state = self.state_dict()
        self.sums, self.missed = {}, {}
        self.num_steps.zero_()
        counts = {name: state["num_steps"] - missed for name, missed in state["missed"].items()}
        return {name: total / counts[name] if counts[name] else float("nan") for name, total in state["sums"].items()}

    def average_over_processes(self) -> None:
        """Put the mean over all processes in the place of the own sums; all processes call."""
        self.sums = mean_over_processes(self.sums)

    def state_dict(self) -> dict[str, Any]:
        """Return the sums as numbers; waits for the device."""
        return {
            "sums": {name: float(total) for name, total in self.sums.items()},
            "missed": {name: int(missed) for name, missed in self.missed.items()},
            "num_steps": int(self.num_steps),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over sums; where a state from before does not say it, no loss missed a step."""
        missed = dict.fromkeys(state["sums"], 0) | dict(state.get("missed", {}))
        self.sums = {
            name: torch.tensor(total, dtype=torch.float64, device=self.device) for name, total in state["sums"].items()
        }
        self.missed = {name: torch.tensor(count, device=self.device) for name, count in missed.items()}
        self.num_steps.fill_(state["num_steps"])
