"""The one place where window scores become outputs: softmax(q k^T + bias) v.

Ways of computing the same thing, each the fastest one somewhere:
- explicit: two batched products and a softmax. The way on a CPU with gradients.
- in place: the same without gradients on a CPU, a few windows at a time in one buffer that stays in the cache, so
  memory does not grow with the map either.
- fused: one scaled_dot_product_attention with the bias as its mask, for CUDA.
Units that learn relative terms, and plain ones, have cpu_attention.py for a CPU, with a backward pass of its own.
Whatever masks scores (shifts, invalid keys) travels as more channels of query and key, so no mask a window exists.
Only the in-place way may be given masks instead: there they are added to the few windows that need one.

Shapes: M windows, h heads, P target cells, N source cells, d query/key channels, e value channels.
"""

from collections.abc import Callable, Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from hriusr.blocks.windows import ShiftRegions

MASKED = -1e4  # added to a masked score: its exp() is 0 in every format, and it fits into fp16
_CHUNK_BYTES = 3 << 19  # scores computed at a time without gradients: they stay in the L2 cache of a core
_HEAD_ALIGNMENT = 8  # fused CUDA kernels want channels in multiples of 8


def attend(
    q_MhPd: Tensor,
    k_MhNd: Tensor,
    v_MhNe: Tensor,
    bias: Tensor | None = None,
    *,
    scale: float = 1.0,
    renorm: str = "softmax",
    keep_MPN: Tensor | None = None,
    masks: Mapping[int, Tensor] | None = None,
    fused: bool | None = None,
) -> Tensor:
    """Weight values by renormalised scores scale q k^T + bias, window by window.

    Args:
        q_MhPd: queries.
        k_MhNd: keys.
        v_MhNe: values.
        bias: added to the scores: (h, P, N) for every window alike, or (M, h, P, N).
        scale: what products of query and key are multiplied by.
        renorm: "softmax", or "l2": t / (||t||_2 + 1) over the kept scores t of a target cell, signed.
        keep_MPN: for "l2", 1 where a score counts and 0 where it does not.
        masks: window number -> (P, N) to add to its scores; only where computes_in_place holds.
        fused: force the fused or the explicit way; None takes the faster one.

    Returns:
        y_MhPe.
    """
    if fused is None and renorm == "softmax" and computes_in_place(q_MhPd):
        return _attend_in_place(q_MhPd, k_MhNd, v_MhNe, bias, scale, masks or {})
    assert not masks, "masks are for the in-place way"
    if scale != 1:
        q_MhPd = q_MhPd * scale
    if fused is None:
        fused = q_MhPd.is_cuda and renorm == "softmax"
    if fused:
        return _attend_fused(q_MhPd, k_MhNd, v_MhNe, bias)

    def attend_part(part: slice | None) -> Tensor:
        part_bias = bias if bias is None or bias.dim() == 3 else take(bias, part)
        q, k, v, keep = (take(x, part) for x in (q_MhPd, k_MhNd, v_MhNe, keep_MPN))
        return _attend_explicit(q, k, v, part_bias, renorm, keep)

    num_windows, num_heads, num_targets = q_MhPd.shape[:3]
    scores_per_window = num_heads * num_targets * k_MhNd.shape[2]
    return in_parts(attend_part, num_windows, scores_per_window, q_MhPd.dtype, q_MhPd.device)


def attend_shifted(
    q_MhPd: Tensor,
    k_MhNd: Tensor,
    v_MhNe: Tensor,
    bias: Tensor | None,
    regions: ShiftRegions | None,
    numbers: range,
    grid: tuple[int, int],
    *,
    scale: float = 1.0,
) -> Tensor:
    """Attend inside windows of a rolled map, without looking across the cut; softmax.

    Args:
        q_MhPd: queries.
        k_MhNd: keys.
        v_MhNe: values.
        bias: see attend.
        regions: where the cut goes; None for a map that is not rolled.
        numbers: of the windows, by map, then row-major; whole maps but where computes_in_place holds.
        grid: windows down and across a map.
        scale: see attend.
    """
    if regions is None:
        return attend(q_MhPd, k_MhNd, v_MhNe, bias, scale=scale)
    if computes_in_place(q_MhPd):
        masks = regions.masks(numbers, grid, MASKED)
        return attend(q_MhPd, k_MhNd, v_MhNe, bias, scale=scale, masks=masks)
    q_MhPd, k_MhNd = regions.extend(q_MhPd * scale, k_MhNd, grid, MASKED)
    return attend(q_MhPd, k_MhNd, v_MhNe, bias)


def windows_at_once(num_heads: int, num_targets: int, num_sources: int) -> int:
    """Return how many windows go through a unit together where computes_in_place holds."""
    return max(2 * _CHUNK_BYTES // (4 * num_heads * num_targets * num_sources), 1)


def computes_in_place(x: Tensor) -> bool:
    """Whether work on such a tensor may go by parts that reuse one buffer: on a CPU, eagerly, without gradients."""
    if x.device.type != "cpu" or torch.is_grad_enabled() or torch.compiler.is_compiling():
        return False
    return x.numel() > 0


def _attend_in_place(
    q_MhPd: Tensor, k_MhNd: Tensor, v_MhNe: Tensor, bias: Tensor | None, scale: float, masks: Mapping[int, Tensor]
) -> Tensor:
    num_windows, num_heads, num_targets, num_keys = *q_MhPd.shape[:3], k_MhNd.shape[2]
    length = max(_CHUNK_BYTES // (num_heads * num_targets * num_keys * q_MhPd.element_size()), 1)
    buffer = q_MhPd.new_empty(min(length, num_windows) * num_heads, num_targets, num_keys)
    y_MhPe = v_MhNe.new_empty(*q_MhPd.shape[:3], v_MhNe.shape[3])
    bias = None if bias is None else bias.to(q_MhPd.dtype)
    for start in range(0, num_windows, length):
        part = slice(start, start + length)
        # A single window's heads are a batch as they lie; several windows' are copied together, inside the cache
        q_BPd, k_BNd, v_BNe = (x[part].flatten(0, 1) for x in (q_MhPd, k_MhNd, v_MhNe))
        scores_BPN = buffer[: len(q_BPd)]
        torch.baddbmm(scores_BPN, q_BPd, k_BNd.transpose(1, 2), beta=0, alpha=scale, out=scores_BPN)
        scores_MhPN = scores_BPN.unflatten(0, (-1, num_heads))
        if bias is not None:
            scores_MhPN += bias[part] if bias.dim() == 4 else bias
        for index, scores_hPN in enumerate(scores_MhPN, start):
            if index in masks:
                scores_hPN += masks[index]
        torch.softmax(scores_BPN, -1, out=scores_BPN)
        y_MhPe[part] = torch.bmm(scores_BPN, v_BNe).unflatten(0, (-1, num_heads))
    return y_MhPe


def in_parts(
    compute: Callable[[slice | None], Tensor],
    num_windows: int,
    scores_per_window: int,
    dtype: torch.dtype,
    device: torch.device,
) -> Tensor:
    """Compute something for all windows: on a CPU without gradients a few at a time, so that it stays in the cache.

    Args:
        compute: part of the windows, None for all of them -> result, windows first.
        num_windows: M.
        scores_per_window: h P N.
        dtype: of the scores.
        device: where they are computed.

    Returns:
        What compute returns for all windows.
    """
    size = max(_CHUNK_BYTES // (scores_per_window * dtype.itemsize), 1)
    is_whole = device.type != "cpu" or torch.is_grad_enabled() or torch.compiler.is_compiling()
    if is_whole or num_windows <= size:
        return compute(None)
    result = None
    for start in range(0, num_windows, size):
        part = compute(slice(start, start + size))
        if result is None:
            result = part.new_empty(num_windows, *part.shape[1:])
        result[start : start + size] = part
    return result


def computing_dtype(x: Tensor) -> torch.dtype:
    """Return the number format that a product with x comes out in: autocast's where it is on, else x's own."""
    device = x.device.type
    if not torch.amp.is_autocast_available(device):  # "meta"
        return x.dtype
    return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else x.dtype


def take(x: Tensor | None, part: slice | None) -> Tensor | None:
    """Return the windows of a part; None stays None, and part None is all of them."""
    return x if x is None or part is None else x[part]


def _attend_explicit(
    q_MhPd: Tensor, k_MhNd: Tensor, v_MhNe: Tensor, bias: Tensor | None, renorm: str, keep_MPN: Tensor | None
) -> Tensor:
    scores_MhPN = q_MhPd @ k_MhNd.transpose(-1, -2)
    if bias is not None:
        scores_MhPN += bias.to(scores_MhPN.dtype)  # in place: the product is needed by nothing else, backward included
    if renorm == "softmax":
        # Half-precision scores are normalised in float32 inside softmax; the weights come back in their own format.
        return scores_MhPN.softmax(-1).to(v_MhNe.dtype) @ v_MhNe
    if keep_MPN is not None:
        scores_MhPN = scores_MhPN * keep_MPN[:, None].to(scores_MhPN.dtype)
    wide = torch.promote_types(scores_MhPN.dtype, torch.float32)  # squares of fp16 scores overflow
    norm = torch.linalg.vector_norm(scores_MhPN, dim=-1, keepdim=True, dtype=wide)
    return (scores_MhPN / (norm + 1)).to(v_MhNe.dtype) @ v_MhNe


def _attend_fused(q_MhPd: Tensor, k_MhNd: Tensor, v_MhNe: Tensor, bias: Tensor | None) -> Tensor:
    num_values = v_MhNe.shape[-1]
    q, k, v = (_pad_channels(x) for x in (q_MhPd, k_MhNd, v_MhNe))
    if bias is not None:
        bias = bias.to(q.dtype).expand(len(q), -1, -1, -1)
    return F.scaled_dot_product_attention(q, k, v, attn_mask=bias, scale=1.0)[..., :num_values]


def _pad_channels(x_MhNd: Tensor) -> Tensor:
    return F.pad(x_MhNd, (0, -x_MhNd.shape[-1] % _HEAD_ALIGNMENT))
