"""What the detectors of all families share: counting children, undoing roundings, and recognising the head."""

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from hriusr.errors import WeightsError

IMG_RANGE_REASON = "pixels are stretched to 0..img_range inside; no tensor tells"


@dataclass
class Detection:
    """What the tensors of a file say of its network.

    Attributes:
        network_opt: `type` and the constructor's arguments.
        assumed: arguments that no tensor tells, with the value of every published network; name -> why.
        doubtful: arguments that no tensor tells and that do differ between networks; name -> why.
    """

    network_opt: dict[str, Any]
    assumed: dict[str, str] = field(default_factory=dict)
    doubtful: dict[str, str] = field(default_factory=dict)

    def describe(self, names: Iterable[str]) -> str:
        """Join arguments as `name=value`."""
        return ", ".join(f"{name}={self.network_opt[name]!r}" for name in names)


def num_children(state: Mapping[str, Tensor], prefix: str) -> int:
    """Return how many numbered children a container has: 1 + the largest number behind `prefix`."""
    pattern = re.compile(re.escape(prefix) + r"\.(\d+)\.")
    numbers = [int(match.group(1)) for name in state if (match := pattern.match(name))]
    return max(numbers, default=-1) + 1


def rows(state: Mapping[str, Tensor], name: str) -> int:
    """Return the length of a tensor's first axis: output channels of a layer.

    Raises:
        WeightsError: the file lacks it.
    """
    return shape(state, name)[0]


def shape(state: Mapping[str, Tensor], name: str) -> tuple[int, ...]:
    """Return a tensor's shape.

    Raises:
        WeightsError: the file lacks it.
    """
    if name not in state:
        raise WeightsError(f"lacks {name}")
    return tuple(state[name].shape)


def whole_root(number: int, what: str) -> int:
    """Return the square root of a square.

    Raises:
        WeightsError: it is none.
    """
    root = math.isqrt(number)
    if root**2 != number:
        raise WeightsError(f"has {what} of {number} entries, which is no square")
    return root


def ratio_of(part: int, whole: int) -> float:
    """Return a ratio with int(whole * ratio) == part, the shortest decimal there is."""
    for digits in (1, 2, 3):
        ratio = round(part / whole, digits)
        if int(whole * ratio) == part:
            return ratio
    return (part + 0.5) / whole


def divisor_of(quotient: int, whole: int) -> float:
    """Return a divisor with int(whole // divisor) == quotient, a whole one where there is one."""
    for divisor in (whole / quotient, whole // quotient, (whole + 0.5) / (quotient + 0.5)):
        if int(whole // divisor) == quotient:
            return int(divisor) if float(divisor).is_integer() else divisor
    raise WeightsError(f"has {quotient} inner channels of {whole}, which no ratio gives")


def connection_kind(state: Mapping[str, Tensor], name: str) -> str:
    """Return the resi_connection whose layers stand under `name`."""
    if f"{name}.weight" in state:
        return "1conv"
    return "3conv" if f"{name}.0.weight" in state else "identity"


def add_head(found: Detection, state: Mapping[str, Tensor]) -> None:
    """Recognise the head (blocks/upsamplers.py) and add upsampler, upscale and num_feat to a detection.

    Args:
        found: with in_chans; changed.
        state: the file's tensors.

    Raises:
        WeightsError: the head is none of ours.
    """
    arguments, in_chans = found.network_opt, found.network_opt["in_chans"]
    if "conv_hr.weight" in state:
        num_up = sum(re.fullmatch(r"conv_up\d+\.weight", name) is not None for name in state)
        arguments |= {"upsampler": "nearest+conv", "upscale": 2**num_up, "num_feat": rows(state, "conv_hr.weight")}
        if num_up == 1:
            found.assumed["upscale"] = "a head of one nearest enlargement fits x3 too, which only ours have"
    elif "conv_before_upsample.0.weight" in state:
        num_feat = rows(state, "conv_before_upsample.0.weight")
        factors = [
            whole_root(rows(state, name) // num_feat, name)
            for name in state
            if re.fullmatch(r"upsample\.\d+\.weight", name)
        ]
        kind = "pixelshuffle_aux" if "conv_bicubic.weight" in state else "pixelshuffle"
        arguments |= {"upsampler": kind, "upscale": math.prod(factors), "num_feat": num_feat}
    elif "upsample.0.weight" in state:
        upscale = whole_root(rows(state, "upsample.0.weight") // in_chans, "upsample.0.weight")
        arguments |= {"upsampler": "pixelshuffledirect", "upscale": upscale}
    elif "conv_last.weight" in state:
        arguments |= {"upsampler": "", "upscale": 1}
    else:
        raise WeightsError("has no head that is known (no conv_last, no upsample)")
    if "conv_last.weight" in state and rows(state, "conv_last.weight") != in_chans:
        raise WeightsError(
            f"takes {in_chans} channels and gives {rows(state, 'conv_last.weight')}; ours give as many as they take"
        )
