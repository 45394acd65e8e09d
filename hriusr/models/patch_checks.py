"""Whether losses and discriminators take patches as large as training will cut them: asked before the first step.

A progressive stage may begin after hours. Shapes: C channels, s pixels a side.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from hriusr.errors import OptionsError
from hriusr.models.channel_checks import channels_taken


def patch_sides(opt: Mapping[str, Any]) -> list[int]:
    """Return the sides of the patches that losses see, in ascending order; none where the options name no patch.

    Args:
        opt: options of a training: datasets.train.gt_size, that of progressive stages, gt_size after degrading.
    """
    train_set = (opt.get("datasets") or {}).get("train") or {}
    stages = [stage.get("gt_size") for stage in train_set.get("progressive") or []]
    return sorted({side for side in (opt.get("gt_size") or train_set.get("gt_size"), *stages) if side})


@torch.no_grad()
def check_discriminator(network: nn.Module, opt: Mapping[str, Any], device: torch.device) -> None:
    """Show a discriminator one black patch of each side.

    Raises:
        OptionsError: it does not take one of them.
    """
    network_opt = opt["network_d"]
    was_training = network.training
    network.eval()  # spectral and batch norms learn from what they see otherwise
    for side in patch_sides(opt):
        try:
            network(torch.zeros(1, channels_taken(network_opt) or 3, side, side, device=device))
        except (RuntimeError, AssertionError, ValueError, IndexError) as error:
            raise OptionsError(
                f"network_d.type {network_opt['type']} does not take patches of {side}x{side} ({error}): change "
                "datasets.train.gt_size or progressive, or network_d"
            ) from error
    network.train(was_training)


@torch.no_grad()
def check_losses(losses: Mapping[str, nn.Module | None], opt: Mapping[str, Any], device: torch.device) -> None:
    """Show losses two black patches of the smallest side.

    Args:
        losses: key of the options -> loss, None for one that is not there.
        opt: see patch_sides.
        device: of the losses.

    Raises:
        OptionsError: a loss does not take them.
    """
    for side in patch_sides(opt)[:1]:
        patch_1Css = torch.zeros(1, channels_taken(opt["network_g"]) or 3, side, side, device=device)
        for key, loss in losses.items():
            if loss is None or getattr(loss, "is_missing", False):
                continue
            try:
                loss(patch_1Css, patch_1Css)
            except (RuntimeError, AssertionError, ValueError, IndexError) as error:
                raise OptionsError(
                    f"{key} does not take patches of {side}x{side} ({error}): choose a larger datasets.train.gt_size"
                ) from error
