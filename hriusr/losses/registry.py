"""Losses by name: BasicSR's (L1Loss, MSELoss, CharbonnierLoss, PerceptualLoss, ...) and those registered here."""

import difflib
import inspect
from collections.abc import Mapping
from typing import Any

from torch import nn

from hriusr.basicsr_bridge import LOSS_REGISTRY, register_package
from hriusr.errors import OptionsError


def build_loss(loss_opt: Mapping[str, Any], place: str = "train.pixel_opt") -> nn.Module:
    """Build a loss.

    Args:
        loss_opt: `type` and the constructor's keyword arguments; not changed.
        place: key of the options, for messages.

    Returns:
        A module (output_BCHW, target_BCHW) -> scalar; perceptual losses return (scalar, scalar or None).

    Raises:
        OptionsError: no type, an unknown type or argument, or values the constructor refuses.
    """
    register_package()
    arguments = dict(loss_opt)
    type_name = arguments.pop("type", None)
    if type_name not in LOSS_REGISTRY:
        known = sorted(LOSS_REGISTRY.keys())
        nearest = difflib.get_close_matches(str(type_name), known, n=1, cutoff=0.5)
        hint = f"did you mean {nearest[0]!r}?" if nearest else f"one of {', '.join(known)}"
        raise OptionsError(f"{place}.type: unknown loss {type_name!r}; {hint}")
    loss_class = LOSS_REGISTRY.get(type_name)
    try:
        inspect.signature(loss_class).bind(**arguments)
    except TypeError as error:
        takes = ", ".join(inspect.signature(loss_class).parameters)
        raise OptionsError(f"{place} ({type_name}): {error}; it takes {takes}") from error
    try:
        return loss_class(**arguments)
    except ValueError as error:
        raise OptionsError(f"{place} ({type_name}): {error}") from error
