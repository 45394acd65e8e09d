"""Recognise RRDBNet (ESRGAN, arXiv:1809.00219, and Real-ESRGAN) by the names of BasicSR, which builds it."""

from collections.abc import Mapping

from torch import Tensor

from hriusr.archs.detect_parts import Detection, num_children, rows, shape
from hriusr.errors import WeightsError

_FIRST_BLOCK = "body.0.rdb1.conv1.weight"
_UNSHUFFLED_SCALES = {4: 2, 16: 1}  # channels in, in parts of those out -> scale


def is_rrdbnet(state: Mapping[str, Tensor]) -> bool:
    """Tell whether the tensors are of BasicSR's RRDBNet."""
    return _FIRST_BLOCK in state and "conv_up2.weight" in state


def detect_rrdbnet(state: Mapping[str, Tensor]) -> Detection:
    """Find the arguments.

    Raises:
        WeightsError: it is of scale 2 or 1, or does not keep the number of channels.
    """
    num_feat, num_in_ch = shape(state, "conv_first.weight")[:2]
    num_out_ch = rows(state, "conv_last.weight")
    scale = _UNSHUFFLED_SCALES.get(num_in_ch // num_out_ch)
    if scale is not None:
        raise WeightsError(
            f"is of an RRDBNet of scale {scale}, which takes only pictures whose sides are multiples of {4 // scale}: "
            "not supported; take one of scale 4"
        )
    if num_in_ch != num_out_ch or num_in_ch != 3:
        raise WeightsError(f"is of an RRDBNet with {num_in_ch} channels in and {num_out_ch} out; only 3 are supported")
    return Detection(
        {
            "type": "RRDBNet",
            "num_in_ch": num_in_ch,
            "num_out_ch": num_out_ch,
            "scale": 4,
            "num_feat": num_feat,
            "num_block": num_children(state, "body"),
            "num_grow_ch": rows(state, _FIRST_BLOCK),
        }
    )
