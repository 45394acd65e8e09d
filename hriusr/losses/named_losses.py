"""Any number of losses by names of the user's choice: train.losses of an option file."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from hriusr.losses.registry import build_loss


class NamedLosses(nn.Module):
    """Losses of an output, each from an iteration on."""

    def __init__(self, losses_opt: Mapping[str, Mapping[str, Any]]):
        """Build them.

        Args:
            losses_opt: name -> type, start_iter and the constructor's keyword arguments.

        Raises:
            OptionsError: as build_loss does.
        """
        super().__init__()
        self.start_iters = {name: loss_opt.get("start_iter") or 0 for name, loss_opt in losses_opt.items()}
        self.losses = nn.ModuleList(
            build_loss({key: value for key, value in loss_opt.items() if key != "start_iter"}, f"train.losses.{name}")
            for name, loss_opt in losses_opt.items()
        )

    def by_name(self) -> dict[str, nn.Module]:
        """Return the losses by name."""
        return dict(zip(self.start_iters, self.losses, strict=True))

    def starts(self) -> list[int]:
        """Return the iterations from which on losses are there; without those whose weights are missing."""
        pairs = zip(self.start_iters.values(), self.losses, strict=True)
        return [start_iter for start_iter, loss in pairs if not getattr(loss, "is_missing", False)]

    def forward(self, output_BCHW: Tensor, target_BCHW: Tensor, iteration: int) -> dict[str, Tensor]:
        """Measure.

        Args:
            output_BCHW: of the network.
            target_BCHW: ground truth.
            iteration: number of the step, from 1.

        Returns:
            l_<name> -> scalar, of the losses that have begun.
        """
        values = {}
        for (name, start_iter), loss in zip(self.start_iters.items(), self.losses, strict=True):
            if iteration >= start_iter:
                value = loss(output_BCHW, target_BCHW)
                # PerceptualLoss returns (perceptual, style), either of them None
                parts = [part for part in (value if isinstance(value, tuple) else (value,)) if part is not None]
                if parts:
                    values[f"l_{name}"] = sum(parts)
        return values
