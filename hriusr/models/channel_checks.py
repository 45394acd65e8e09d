"""Whether pictures have the channels that a network takes: torch would broadcast grey ones, and train on nonsense.

Shapes: B batch, C channels, H W pixels.
"""

import functools
import inspect
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from hriusr.archs.registry import network_signature
from hriusr.errors import OptionsError

CHANNEL_KEYS = ("in_chans", "num_in_ch")  # of our networks, of BasicSR's


@functools.cache
def _channels_argument(type_name: str) -> tuple[str, int | None]:
    """Return the argument that names the channels a network takes, and its default; ("", None) where it has none."""
    signature = network_signature(type_name)
    for key in CHANNEL_KEYS:
        if signature is not None and key in signature.parameters:
            default = signature.parameters[key].default
            return key, None if default is inspect.Parameter.empty else default
    return "", None


def channels_taken(network_opt: Mapping[str, Any]) -> int | None:
    """Return how many channels a network takes by its options, None where they don't say."""
    key, default = _channels_argument(network_opt["type"])
    return network_opt.get(key, default)


def check_input(picture_BCHW: Tensor, network_opt: Mapping[str, Any], place: str = "network_g") -> None:
    """Compare pictures with the argument of a network that names its channels, where it has one.

    Args:
        picture_BCHW: what the network is to take.
        network_opt: `type` and arguments.
        place: key of the options, for messages.

    Raises:
        OptionsError: another number of channels.
    """
    key, wanted = _channels_argument(network_opt["type"])[0], channels_taken(network_opt)
    if wanted not in (None, picture_BCHW.shape[1]):
        raise OptionsError(
            f"the training pictures have {picture_BCHW.shape[1]} channels, {place}.{key} is {wanted}: change it, or "
            "datasets.train.color (y and grey give one channel)"
        )


def check_output(output_BCHW: Tensor, target_BCHW: Tensor) -> None:
    """Compare an output with its ground truth.

    Raises:
        OptionsError: another shape.
    """
    if output_BCHW.shape != target_BCHW.shape:
        output, target = (
            f"{each.shape[3]}x{each.shape[2]} pixels of {each.shape[1]} channels" for each in (output_BCHW, target_BCHW)
        )
        raise OptionsError(
            f"the network gives {output}, the ground truth has {target}: check network_g (upscale, channels), scale "
            "and datasets.train.color"
        )
