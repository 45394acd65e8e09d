"""The index buffers and masks that the original SwinIR, HAT and Swin2SR keep in their files.

They follow from the arguments, so our networks have none. Their loaders are strict, and spandrel's detection reads
sizes from them: a file for those needs them. Formulas are those of the original repositories, also HAT's index that
runs below zero.

Shapes: w side of a window, N = w*w cells, W side of HAT's larger window.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from hriusr.blocks.cosine_attention import log_spaced_offsets

_MASKED = -100.0
_USUAL_IMG_SIZE = 64
_SWIN_HEADS = ("pixelshuffle", "pixelshuffledirect", "nearest+conv", "", None)
_KNOWN_THERE: dict[str, dict[str, tuple]] = {
    "SwinIR": {"upsampler": _SWIN_HEADS, "resi_connection": ("1conv", "3conv"), "num_feat": (64,)},
    "Swin2SR": {
        "upsampler": (*_SWIN_HEADS, "pixelshuffle_aux"),
        "resi_connection": ("1conv", "3conv"),
        "num_feat": (64,),
    },
    "HAT": {"upsampler": ("pixelshuffle",), "resi_connection": ("1conv", "identity")},
}
_NEAREST_SCALES = {"SwinIR": (2, 4), "Swin2SR": (4,), "HAT": ()}


def with_original_buffers(state: Mapping[str, Tensor], network_opt: Mapping[str, Any]) -> dict[str, Tensor]:
    """Return a state_dict that the original code and spandrel load strictly.

    Args:
        state: of our SwinIR, HAT or Swin2SR.
        network_opt: its `type` and constructor arguments, complete.
    """
    window_size = network_opt["window_size"]
    buffers: dict[str, Tensor] = {}
    if network_opt["type"] == "HAT":
        overlap = int(window_size * network_opt["overlap_ratio"])
        buffers["relative_position_index_SA"] = window_index(window_size)
        buffers["relative_position_index_OCA"] = overlap_index(window_size, window_size + overlap)
        return {**state, **buffers}
    index, mask = window_index(window_size), shift_mask(mask_img_size(network_opt), window_size)
    table = log_spaced_offsets(window_size)[None]
    for group, depth in enumerate(network_opt["depths"]):
        for block in range(depth):
            prefix = f"layers.{group}.residual_group.blocks.{block}"
            buffers[f"{prefix}.attn.relative_position_index"] = index.clone()
            if block % 2:
                buffers[f"{prefix}.attn_mask"] = mask.clone()
            if network_opt["type"] == "Swin2SR":
                buffers[f"{prefix}.attn.relative_coords_table"] = table.clone()
    return {**state, **buffers}


def lacks_in_originals(network_opt: Mapping[str, Any]) -> list[str]:
    """List the arguments of a SwinIR, HAT or Swin2SR of ours that the original code does not know, as `name=value`."""
    known = _KNOWN_THERE[network_opt["type"]]
    lacking = [name for name, values in known.items() if network_opt[name] not in values]
    if (
        network_opt["upsampler"] == "nearest+conv"
        and network_opt["upscale"] not in _NEAREST_SCALES[network_opt["type"]]
    ):
        lacking.append("upscale")
    return [f"{name}={network_opt[name]!r}" for name in lacking]


def mask_img_size(network_opt: Mapping[str, Any]) -> int:
    """Return the side of the picture that masks are made for: img_size where the originals allow it, else about 64.

    Theirs is a multiple of the window, and larger: at one window the originals would not shift at all.
    """
    window_size, img_size = network_opt["window_size"], network_opt.get("img_size", _USUAL_IMG_SIZE)
    if isinstance(img_size, int) and img_size > window_size and img_size % window_size == 0:
        return img_size
    return window_size * max(_USUAL_IMG_SIZE // window_size, 2)


def window_index(window_size: int) -> Tensor:
    """Return Swin's index of each pair of cells of a window, (N, N)."""
    offset = _offsets(window_size, window_size)
    return _pairs(-offset + window_size - 1, 2 * window_size - 1)


def overlap_index(window_size: int, key_size: int) -> Tensor:
    """Return HAT's index of each cell of a window and of the larger window around it, (N, W*W), partly negative."""
    offset = _offsets(window_size, key_size) + window_size - key_size + 1
    return _pairs(offset, window_size + key_size - 1)


def shift_mask(img_size: int, window_size: int) -> Tensor:
    """Return what is added to the scores of shifted windows, (windows, N, N): -100 between unlike regions, else 0.

    Args:
        img_size: side of the picture, a multiple of the window, pixels.
        window_size: side of a window; windows are shifted by half of it.
    """
    place = torch.arange(img_size)
    band = (place >= img_size - window_size).int() + (place >= img_size - window_size // 2).int()
    region = band[:, None] * 3 + band
    cells = (
        region.unflatten(0, (-1, window_size)).unflatten(2, (-1, window_size)).transpose(1, 2).flatten(2).flatten(0, 1)
    )
    return torch.where(cells[:, :, None] == cells[:, None, :], 0.0, _MASKED)


def _offsets(query_size: int, key_size: int) -> Tensor:
    """Return key - query along an axis, (query, key)."""
    return torch.arange(key_size)[None, :] - torch.arange(query_size)[:, None]


def _pairs(axis_qk: Tensor, row_length: int) -> Tensor:
    """Join the entries of two equal axes into row-major indices of all pairs of cells, (queries, keys)."""
    index_yxYX = axis_qk[:, None, :, None] * row_length + axis_qk[None, :, None, :]
    return index_yxYX.flatten(2).flatten(0, 1)
