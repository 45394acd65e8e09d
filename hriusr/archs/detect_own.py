"""Recognise our own networks by the shapes of their tensors: for files that lost network_g.

What we write says its network (archs/marker.py); this reads what says nothing, as a bare state_dict. HRIUSR and
InvolutionSR can be told almost wholly, MobileViTSR and HRViTSR lack heads and windows, for which the defaults stand.
"""

import inspect
import math
from collections.abc import Mapping

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
from hriusr.archs.registry import network_signature
from hriusr.errors import WeightsError

_GROUP = "body.0.residual_group.blocks"
_USUAL_KERNEL = 7
_FIRST_FUSION = "body.fusions.{stage}.paths.1.0.0"


def is_own(state: Mapping[str, Tensor]) -> bool:
    """Tell whether the tensors are of one of our networks."""
    return "shallow.weight" in state and "fuse.weight" in state and _type_of(state) is not None


def detect_own(state: Mapping[str, Tensor]) -> Detection:
    """Find architecture and arguments.

    Raises:
        WeightsError: shapes that none of ours has; the message goes on after "the file".
    """
    type_name = _type_of(state)
    embed_dim, in_chans = shape(state, "shallow.weight")[:2]
    found = Detection({"type": type_name, "in_chans": in_chans, "embed_dim": embed_dim})
    _DETECTORS[type_name](found, state)
    add_head(found, state)
    _assume(found, "img_range", IMG_RANGE_REASON, is_doubtful=False)
    return found


def _type_of(state: Mapping[str, Tensor]) -> str | None:
    for name, type_name in (
        ("groups.0.conv.weight", "HRIUSR"),
        ("groups.0.conv.0.weight", "HRIUSR"),
        ("body.stages.0.0.embed.weight", "HRViTSR"),
        (f"{_GROUP}.0.involution.reduce.weight", "InvolutionSR"),
    ):
        if name in state:
            return type_name
    is_mobilevit = any(name.startswith("body.0.residual_group.blocks.") and ".transformer." in name for name in state)
    return "MobileViTSR" if is_mobilevit else None


def _assume(found: Detection, name: str, reason: str, *, is_doubtful: bool = True) -> None:
    """Take the constructor's default for an argument that no tensor tells."""
    default = network_signature(found.network_opt["type"]).parameters[name].default
    assert default is not inspect.Parameter.empty
    found.network_opt[name] = list(default) if isinstance(default, tuple) else default
    (found.doubtful if is_doubtful else found.assumed)[name] = reason


def _hriusr(found: Detection, state: Mapping[str, Tensor]) -> None:
    arguments = found.network_opt
    groups = [f"groups.{group}" for group in range(num_children(state, "groups"))]
    depths = [num_children(state, f"{group}.blocks") for group in groups]
    arguments |= {
        "num_convs": sum(name.startswith("groups.0.conv") and name.endswith("weight") for name in state),
        "norm": "instance" if "norm.norm.weight" in state else "layer",
        "overlap_ratio": 0.0,
        "channel_attention": "none",
    }
    has_overlap = False
    low_block = "groups.0.low_resolution.blocks.0"
    if any(depths):
        depth, group = max(zip(depths, groups, strict=True), key=lambda pair: pair[0])  # the first of the deepest
        first, closing = f"{group}.blocks.0", f"{group}.blocks.{depth - 1}"
        _hriusr_feed_forward(found, state, first)
        _channel_attention(found, state, first)
        if f"{first}.attention.project_out.weight" in state:
            has_overlap = _hriusr_attention(found, state, first, closing)
        else:
            arguments["num_heads"] = 0
    elif f"{low_block}.attention.project_out.weight" in state:
        _hriusr_feed_forward(found, state, low_block)
        _hriusr_attention(found, state, low_block, low_block)
    arguments["depths"] = [depth - has_overlap for depth in depths]
    _low_resolution(found, state)
    _assume(found, "renorm", "how scores become weights; no tensor tells", is_doubtful=False)


def _hriusr_feed_forward(found: Detection, state: Mapping[str, Tensor], block: str) -> None:
    arguments, fc1, depthwise = found.network_opt, f"{block}.ffn.fc1.weight", f"{block}.ffn.depthwise.weight"
    if fc1 not in state:
        arguments["ffn"] = "none"
        return
    arguments |= {"mlp_ratio": ratio_of(rows(state, fc1), arguments["embed_dim"]), "ffn_kernel_size": 0}
    if depthwise in state:
        arguments["ffn_kernel_size"] = shape(state, depthwise)[-1]
        if rows(state, fc1) == 2 * rows(state, depthwise):
            arguments |= {"ffn": "gated", "mlp_ratio": arguments["mlp_ratio"] / 2}


def _channel_attention(found: Detection, state: Mapping[str, Tensor], block: str) -> None:
    arguments, dim = found.network_opt, found.network_opt["embed_dim"]
    for kind, convolution, gate in (
        ("local", "conv1", "squeeze"),
        ("global", "cab.0", "cab.3.attention.1"),
    ):
        if f"{block}.cab.{convolution}.weight" in state:
            arguments["channel_attention"] = kind
            arguments["compress_ratio"] = divisor_of(rows(state, f"{block}.cab.{convolution}.weight"), dim)
            arguments["squeeze_factor"] = divisor_of(rows(state, f"{block}.cab.{gate}.weight"), dim)


def _hriusr_attention(found: Detection, state: Mapping[str, Tensor], first: str, closing: str) -> bool:
    """Read heads, windows and terms; return whether groups close with an overlapping block."""
    arguments = found.network_opt
    num_heads, table_size = shape(state, f"{first}.attention.scores.bias_table")[:2]
    window_size = (table_size + 1) // 2
    overlap = shape(state, f"{closing}.attention.scores.bias_table")[1] - table_size
    lacks_cab = f"{first}.cab_scale" in state and f"{closing}.cab_scale" not in state
    shares_projections = f"{first}.attention.key_value.weight" in state
    terms = _shared_terms(found, state, first) if shares_projections else _terms(state, first)
    arguments |= {
        "num_heads": num_heads,
        "window_size": window_size,
        "wide_window_size": _wide_window_size(state, window_size),
        "shares_projections": shares_projections,
        "similarity": "cosine" if f"{first}.attention.logit_scale" in state else "product",
        "terms": terms,
        "tables": _tables(state),
    }
    can_overlap = f"{closing}.attention.project_in.weight" in state  # a wide block shares its projections
    if first == closing and can_overlap and not (shares_projections or f"{first}.cab_scale" in state):
        found.doubtful["overlap_ratio"] = "the only block of a group may be an overlapping one; no tensor tells"
    is_overlap = can_overlap and (overlap > 0 or lacks_cab or shares_projections)
    if not is_overlap:
        return False
    # an overlap of 0 pixels is a ratio that rounds down to none, and another block than a shifted one
    arguments["overlap_ratio"] = ratio_of(overlap, window_size) or 0.5 / window_size
    overlap_terms = _terms(state, closing)
    arguments["overlap_terms"] = None if overlap_terms == terms else overlap_terms
    return True


def _tables(state: Mapping[str, Tensor]) -> str:
    if any(name.endswith(("involution_table", "imprinting_table")) for name in state):
        return "full"
    by_row = [name for name in state if name.endswith("involution_rows")]
    return "crossed" if any(name.replace("_rows", "_columns") not in state for name in by_row) else "axial"


def _wide_window_size(state: Mapping[str, Tensor], window_size: int) -> int:
    """Read the wide windows from the tables of second blocks, which are as much larger; 0 for none."""
    for group in range(num_children(state, "groups")):
        table = f"groups.{group}.blocks.1.attention.scores.bias_table"
        if table in state and f"groups.{group}.blocks.1.attention.key_value.weight" in state:
            ratio = shape(state, table)[1] // (2 * window_size - 1)
            return window_size * ratio if ratio > 1 else 0
    return 0


def _shared_terms(found: Detection, state: Mapping[str, Tensor], block: str) -> str:
    """Read the letters of a score with one query and one key; whether attention is beside both tables is not told."""
    letters = [
        letter
        for letter, name in (("n", "involution_"), ("m", "imprinting_"))
        if any(key.startswith(f"{block}.attention.scores.{name}") for key in state)
    ]
    has_query = f"{block}.attention.query.weight" in state
    width, dim = shape(state, f"{block}.attention.key_value.weight")
    if len(letters) == 2:
        found.doubtful["terms"] = "term a has no tensor of its own beside n and m with shared projections"
    return "".join(["a"] * (has_query and width == 2 * dim) + letters)


def _terms(state: Mapping[str, Tensor], block: str) -> str:
    """Read the letters of a score: tables show involution and imprinting, the width of project_in attention."""
    scores = f"{block}.attention.scores."
    letters = [
        letter
        for letter, name in (("n", "involution_"), ("m", "imprinting_"))
        if any(key.startswith(scores + name) for key in state)
    ]
    width, dim = shape(state, f"{block}.attention.project_in.weight")
    return "".join(["a"] * (width // dim - 1 - len(letters) == 2) + letters)


def _low_resolution(found: Detection, state: Mapping[str, Tensor]) -> None:
    arguments, branch = found.network_opt, "groups.0.low_resolution"
    if f"{branch}.gate" not in state:
        arguments["low_resolution_ratio"] = 0
        return
    arguments["low_resolution_depth"] = num_children(state, f"{branch}.blocks")
    if f"{branch}.shrink.imprint.scores.bias_table" in state:
        table_size = shape(state, f"{branch}.shrink.imprint.scores.bias_table")[1]
        arguments |= {
            "resampling": "imprinting",
            "low_resolution_ratio": 2 * arguments["window_size"] - table_size,
        }
    elif f"{branch}.shrink.reduction.weight" in state:
        cell = shape(state, f"{branch}.shrink.reduction.weight")[1] // arguments["embed_dim"]
        arguments |= {"resampling": "merging", "low_resolution_ratio": whole_root(cell, "a merged cell")}
    else:
        kernel_size = shape(state, f"{branch}.shrink.conv.weight")[-1]
        arguments |= {"resampling": "conv", "low_resolution_ratio": kernel_size - 1}
        if kernel_size > 3:
            found.doubtful["low_resolution_ratio"] = (
                f"a strided kernel of {kernel_size} is that of 1 less, or of 2 less"
            )


def _hrvit(found: Detection, state: Mapping[str, Tensor]) -> None:
    arguments = found.network_opt
    num_stages = num_children(state, "body.stages")
    branches = [num_children(state, f"body.stages.{stage}") for stage in range(num_stages)]
    del arguments["embed_dim"]
    arguments["embed_dims"] = [
        rows(state, f"body.stages.{num_stages - 1}.{branch}.embed.weight") for branch in range(branches[-1])
    ]
    arguments["depths"] = [
        [num_children(state, f"body.stages.{stage}.{branch}.blocks") for branch in range(number)]
        for stage, number in enumerate(branches)
    ]
    dim = arguments["embed_dims"][0]
    arguments["mlp_ratio"] = ratio_of(rows(state, "body.stages.0.0.blocks.0.ffn.fc1.weight"), dim)
    num_branches = len(arguments["embed_dims"])
    # defaults are for three branches: stripes of 4 x 64 pixels of the picture, and the widest heads that fit all
    arguments |= {
        "stripe_widths": [4] * num_branches,
        "stripe_lengths": [max(64 >> branch, 1) for branch in range(num_branches)],
        "head_dim": math.gcd(*(dim // 2 for dim in arguments["embed_dims"])),
        "resampling": "conv",
    }
    reason = "the stripes and heads of cross-shaped attention; no tensor tells"
    found.doubtful |= dict.fromkeys(("stripe_widths", "stripe_lengths", "head_dim"), reason)
    for stage in range(num_stages):
        path = _FIRST_FUSION.format(stage=stage)
        if f"{path}.reduction.weight" in state:
            arguments["resampling"] = "merging"
        elif f"{path}.imprint.scores.bias_table" in state:
            num_heads, table_size = shape(state, f"{path}.imprint.scores.bias_table")[:2]
            arguments |= {"resampling": "imprinting", "window_size": table_size // 2 + 1, "head_dim": dim // num_heads}
            found.doubtful.pop("head_dim", None)


def _mobilevit(found: Detection, state: Mapping[str, Tensor]) -> None:
    num_blocks = num_children(state, _GROUP)
    mixer = f"{_GROUP}.{num_blocks - 1}"
    transformer_dim, dim = shape(state, f"{mixer}.expand.weight")
    found.network_opt |= {
        "transformer_dim": transformer_dim,
        "depths": [  # the last child of a transformer is its closing LayerNorm
            num_children(state, f"body.{group}.residual_group.blocks.{num_blocks - 1}.transformer") - 1
            for group in range(num_children(state, "body"))
        ],
        "mlp_ratio": ratio_of(rows(state, f"{mixer}.transformer.0.mlp.fc1.weight"), transformer_dim),
        "inverted_depth": num_blocks - 1,
        "resi_connection": connection_kind(state, "body.0.conv"),
    }
    if num_blocks > 1:
        found.network_opt["expand_ratio"] = ratio_of(rows(state, f"{_GROUP}.0.widen.weight"), dim)
    for name in ("num_heads", "patch_size", "window_size"):
        _assume(found, name, "heads and windows of attention without position bias; no tensor tells")


def _involution(found: Detection, state: Mapping[str, Tensor]) -> None:
    arguments, dim = found.network_opt, found.network_opt["embed_dim"]
    arguments |= {
        "depths": [
            num_children(state, f"body.{group}.residual_group.blocks") for group in range(num_children(state, "body"))
        ],
        "mlp_ratio": ratio_of(rows(state, f"{_GROUP}.0.mlp.fc1.weight"), dim),
        "reduction": divisor_of(rows(state, f"{_GROUP}.0.involution.reduce.weight"), dim),
        "resi_connection": connection_kind(state, "body.0.conv"),
    }
    num_weights = rows(state, f"{_GROUP}.0.involution.span.weight")  # kernel_size² a group of channels
    fitting = {
        side: dim // (num_weights // side**2)
        for side in range(1, num_weights + 1, 2)
        if num_weights % side**2 == 0 and dim % (num_weights // side**2) == 0
    }
    if not fitting:
        raise WeightsError(f"has kernels of {num_weights} weights, which no odd kernel_size gives")
    side = min(fitting, key=lambda side: (side != _USUAL_KERNEL, side == 1, side))
    arguments |= {"kernel_size": side, "group_channels": fitting[side]}
    if len(fitting) > 1:
        choices = ", ".join(f"{other} ({channels})" for other, channels in fitting.items())
        found.doubtful["kernel_size"] = f"several fit, with their group_channels: {choices}"


_DETECTORS = {"HRIUSR": _hriusr, "HRViTSR": _hrvit, "MobileViTSR": _mobilevit, "InvolutionSR": _involution}
