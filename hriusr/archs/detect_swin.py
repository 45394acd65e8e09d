"""Recognise SwinIR, HAT and Swin2SR by the names and shapes of their tensors.

Names are those of the published files. Index buffers and masks in them are read where they tell something
(Swin2SR's window, the picture size a mask was made for), and not needed.
"""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from hriusr.archs.detect_parts import (
    IMG_RANGE_REASON,
    Detection,
    add_head,
    connection_kind,
    divisor_of,
    num_children,
    ratio_of,
    rows,
    shape,
    whole_root,
)
from hriusr.errors import WeightsError

_GROUP = "layers.0.residual_group"
_BLOCK = f"{_GROUP}.blocks.0"
_BIAS_TABLE = "attn.relative_position_bias_table"

# part of a name -> what it shows that these networks of ours do not have
_UNSUPPORTED = {
    "absolute_pos_embed": "an absolute position embedding (ape), which fits one picture size only",
    "conv_first.1.weight": "a pixel-unshuffling start",
    "conv_after_body_hf.weight": "the upsampler pixelshuffle_hf",
}
_JPEG_WINDOW = 7  # of the published networks against JPEG artifacts, and of no other
_USUAL_SWIN2SR_WINDOW = 8


def is_swin_family(state: Mapping[str, Tensor]) -> bool:
    """Tell whether the tensors are of SwinIR, HAT or Swin2SR, or of something built from them; SRFormer has no qkv."""
    scores = (f"{_BLOCK}.{_BIAS_TABLE}", f"{_BLOCK}.attn.logit_scale")
    return f"{_BLOCK}.attn.qkv.weight" in state and any(name in state for name in scores)


def detect_swin_family(state: Mapping[str, Tensor]) -> Detection:
    """Find architecture and arguments.

    Raises:
        WeightsError: it is a relative with parts that ours lack; the message goes on after "the file".
    """
    for name, meaning in _UNSUPPORTED.items():
        if name in state:
            raise WeightsError(f"has {meaning} ({name}), which is not supported")
    if f"{_BLOCK}.attn.logit_scale" in state:
        found = _swin2sr(state)
    elif f"{_BLOCK}.conv_block.cab.0.weight" in state:
        found = _hat(state)
    else:
        found = Detection(
            {"type": "SwinIR", **_shared(state), "qkv_bias": f"{_BLOCK}.attn.qkv.bias" in state}
            | _window_and_heads(state)
        )
    add_head(found, state)
    _add_range(found)
    _add_img_size(found, state)
    return found


def _shared(state: Mapping[str, Tensor]) -> dict[str, Any]:
    embed_dim, in_chans = shape(state, "conv_first.weight")[:2]
    num_groups = num_children(state, "layers")
    return {
        "in_chans": in_chans,
        "embed_dim": embed_dim,
        "depths": [num_children(state, f"layers.{group}.residual_group.blocks") for group in range(num_groups)],
        "mlp_ratio": ratio_of(rows(state, f"{_BLOCK}.mlp.fc1.weight"), embed_dim),
        "patch_norm": "patch_embed.norm.weight" in state,
        "resi_connection": connection_kind(state, "conv_after_body"),
    }


def _heads(state: Mapping[str, Tensor], table: str, axis: int) -> list[int]:
    names = [f"layers.{group}.residual_group.blocks.0.{table}" for group in range(num_children(state, "layers"))]
    return [shape(state, name)[axis] for name in names]


def _window_and_heads(state: Mapping[str, Tensor]) -> dict[str, Any]:
    table_side = whole_root(rows(state, f"{_BLOCK}.{_BIAS_TABLE}"), _BIAS_TABLE)
    return {"num_heads": _heads(state, _BIAS_TABLE, axis=1), "window_size": (table_side + 1) // 2}


def _hat(state: Mapping[str, Tensor]) -> Detection:
    arguments = {"type": "HAT", **_shared(state), **_window_and_heads(state)}
    dim, window_size = arguments["embed_dim"], arguments["window_size"]
    overlap_table = f"{_GROUP}.overlap_attn.relative_position_bias_table"
    overlap = whole_root(rows(state, overlap_table), overlap_table) - 2 * window_size + 1
    cab = f"{_BLOCK}.conv_block.cab"
    arguments |= {
        "qkv_bias": f"{_BLOCK}.attn.qkv.bias" in state,
        "overlap_ratio": ratio_of(overlap, window_size),
        "compress_ratio": divisor_of(rows(state, f"{cab}.0.weight"), dim),
        "squeeze_factor": divisor_of(rows(state, f"{cab}.3.attention.1.weight"), dim),
        "conv_scale": 0.01,
    }
    return Detection(arguments, {"conv_scale": "weight of the channel attention, a constant of the code"})


def _swin2sr(state: Mapping[str, Tensor]) -> Detection:
    arguments = {"type": "Swin2SR", **_shared(state), "num_heads": _heads(state, "attn.logit_scale", axis=0)}
    arguments["qkv_bias"] = f"{_BLOCK}.attn.q_bias" in state
    found = Detection(arguments)
    index = f"{_BLOCK}.attn.relative_position_index"
    table = f"{_BLOCK}.attn.relative_coords_table"
    if index in state:
        arguments["window_size"] = whole_root(rows(state, index), index)
    elif table in state:
        arguments["window_size"] = (shape(state, table)[1] + 1) // 2
    else:
        arguments["window_size"] = _USUAL_SWIN2SR_WINDOW
        found.doubtful["window_size"] = "Swin2SR's position bias is computed; without its index buffers no tensor tells"
    return found


def _add_range(found: Detection) -> None:
    """Add img_range: 255 in the published networks against JPEG artifacts, which their window gives away."""
    arguments = found.network_opt
    arguments["img_range"], reasons = 1.0, found.assumed
    if arguments["window_size"] == _JPEG_WINDOW and arguments["type"] != "HAT":
        if arguments["upscale"] == 1:
            arguments["img_range"] = 255.0
        else:
            reasons = found.doubtful
    reasons["img_range"] = IMG_RANGE_REASON


def _add_img_size(found: Detection, state: Mapping[str, Tensor]) -> None:
    """Add the picture size that masks in the file were made for: without effect here, but theirs is kept."""
    mask = f"{_GROUP}.blocks.1.attn_mask"
    if mask in state:
        found.network_opt["img_size"] = whole_root(rows(state, mask), mask) * found.network_opt["window_size"]
