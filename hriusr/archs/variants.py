"""Every named size of every network: its arguments and what it costs. Tests build each and compare.

A name ends with its scale: `hat_s_x4`. Option files can copy a row's arguments into network_g.

Parameters are learned values; Multi-Adds are those of an output of 1280 x 720, by the rule of analysis/complexity.py.
A new size is one more row of VARIANTS; the test of a row with wrong numbers says the right ones.
"""

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Variant:
    """One network of one size at one scale.

    Attributes:
        type: registered name of the architecture.
        arguments: the constructor's keyword arguments, upscale included.
        parameters: learned values.
        multi_adds: multiply-adds for an output of 1280 x 720, in units of 1e9.
        source: where weights or numbers of this size were published.
    """

    type: str
    arguments: Mapping[str, Any]
    parameters: int
    multi_adds: float
    source: str

    def network_opt(self) -> dict[str, Any]:
        """Return the `network_g` section of an option file that builds this network."""
        return {"type": self.type, **copy.deepcopy(dict(self.arguments))}


def _sizes(
    name: str, type_name: str, arguments: Mapping[str, Any], costs: Mapping[int, tuple[int, float]], source: str
) -> dict[str, Variant]:
    """Make the rows of one size: costs has (parameters, Multi-Adds) for each scale."""
    return {
        f"{name}_x{scale}": Variant(type_name, {"upscale": scale, **arguments}, parameters, multi_adds, source)
        for scale, (parameters, multi_adds) in costs.items()
    }


_CLASSICAL = {
    "embed_dim": 180,
    "depths": [6, 6, 6, 6, 6, 6],
    "num_heads": [6, 6, 6, 6, 6, 6],
    "window_size": 8,
    "mlp_ratio": 2.0,
}
_LIGHT = {
    "embed_dim": 60,
    "depths": [6, 6, 6, 6],
    "num_heads": [6, 6, 6, 6],
    "window_size": 8,
    "mlp_ratio": 2.0,
    "upsampler": "pixelshuffledirect",
}
_REAL_LARGE = {
    "embed_dim": 240,
    "depths": [6] * 9,
    "num_heads": [8] * 9,
    "window_size": 8,
    "mlp_ratio": 2.0,
    "upsampler": "nearest+conv",
    "resi_connection": "3conv",
}
_HAT = {
    "depths": [6, 6, 6, 6, 6, 6],
    "num_heads": [6, 6, 6, 6, 6, 6],
    "window_size": 16,
    "mlp_ratio": 2.0,
    "overlap_ratio": 0.5,
    "conv_scale": 0.01,
    "upsampler": "pixelshuffle",
}
# what scripts/study chose: one HRIU and two convolutions a group, quick to compute and to learn (experiments/STUDY.md)
_HRIUSR = {
    "shares_projections": True,
    "ffn": "gated",
    "channel_attention": "none",
    "overlap_ratio": 0,
    "low_resolution_ratio": 0,
    "num_convs": 2,
    "linear_init": "still",
}
_COSINE = {"terms": "a", "similarity": "cosine", "num_convs": 1}
_HRIUSR_TINY = {"embed_dim": 24, "depths": [2], "num_heads": 2, "low_resolution_depth": 1}
_HRIUSR_CLASSICAL = _HRIUSR | {
    "window_size": 16,
    "embed_dim": 160,
    "num_heads": 5,
    "mlp_ratio": 2.0,
    "upsampler": "pixelshuffle",
}
_SWINIR, _SWIN2SR, _HAT_PAPER = "arXiv:2108.10257", "arXiv:2209.11345", "arXiv:2205.04437"

_HRVIT_TINY = {
    "embed_dims": [16, 32],
    "depths": [[1], [1, 1]],
    "head_dim": 8,
    "stripe_widths": [2, 2],
    "stripe_lengths": [16, 16],
}
_HRVIT_SMALL = {
    "embed_dims": [128, 192, 256],
    "depths": [[6], [6, 4], [6, 4, 2], [6, 4, 2]],
    "head_dim": 32,
    "upsampler": "pixelshuffle",
}
_MOBILEVIT_TINY = {
    "embed_dim": 16,
    "transformer_dim": 16,
    "depths": [2],
    "num_heads": 2,
    "window_size": 8,
    "inverted_depth": 1,
}
_MOBILEVIT_SMALL = {
    "embed_dim": 112,
    "transformer_dim": 168,
    "depths": [4] * 6,
    "num_heads": 6,
    "upsampler": "pixelshuffle",
}
_INVOLUTION_SMALL = {"embed_dim": 144, "depths": [8] * 6, "upsampler": "pixelshuffle"}

_TINY = {"embed_dim": 16, "depths": [2, 2], "num_heads": [2, 2], "window_size": 4, "mlp_ratio": 2.0}
_TINY_SOURCE = "ours, for tests and first tries"

_STUDIED = "ours, the study's design; sizes of a quarter of SwinIR-light and near it"
_OURS = "ours, the study's design with windows of 16; sizes near HAT-S, HAT and HAT-L"
_HRVIT = "ours, after arXiv:2111.01236; sizes near SwinIR-light and HAT-S"
_MOBILEVIT = "ours, after arXiv:2110.02178; sizes near SwinIR-light and HAT-S"
_INVOLUTION = "ours, after arXiv:2103.06255; sizes near SwinIR-light and HAT-S"

VARIANTS: dict[str, Variant] = {
    **_sizes("hriusr_tiny", "HRIUSR", _HRIUSR_TINY, {2: (56_796, 19.1)}, _TINY_SOURCE),
    **_sizes(
        "hriusr_fast",
        "HRIUSR",
        _HRIUSR | {"embed_dim": 40, "depths": [1] * 4, "num_heads": 2, "mlp_ratio": 2.5},
        {2: (226_732, 60.0), 3: (232_147, 27.6), 4: (239_728, 16.1)},
        _STUDIED,
    ),
    **_sizes(
        "hriusr_gated",
        "HRIUSR",
        _HRIUSR | {"embed_dim": 48, "depths": [1] * 4, "num_heads": 0, "mlp_ratio": 2.5},
        {2: (269_148, 61.7)},
        "ours, hriusr_fast without attention",
    ),
    **_sizes(
        "hriusr_cosine",
        "HRIUSR",
        _HRIUSR | _COSINE | {"embed_dim": 40, "depths": [2] * 4, "num_heads": 2, "mlp_ratio": 2.0},
        {2: (219_908, 58.9), 3: (225_323, 27.1), 4: (232_904, 15.8)},
        "ours, hriusr_fast with twice the attention, by cosines",
    ),
    **_sizes(
        "hriusr_cosine_light",
        "HRIUSR",
        _HRIUSR | _COSINE | {"embed_dim": 64, "depths": [2] * 7, "num_heads": 4, "mlp_ratio": 1.875},
        {2: (897_084, 229.2), 3: (905_739, 104.0), 4: (917_856, 59.8)},
        "ours, hriusr_cosine at the work of the light size",
    ),
    **_sizes(
        "hriusr_light",
        "HRIUSR",
        _HRIUSR | {"embed_dim": 64, "depths": [1] * 7, "num_heads": 4, "mlp_ratio": 2.0},
        {2: (897_448, 231.0), 3: (906_103, 104.9), 4: (918_220, 60.3)},
        _STUDIED,
    ),
    **_sizes(
        "hriusr_s",
        "HRIUSR",
        _HRIUSR_CLASSICAL | {"depths": [2] * 9},
        {2: (9_773_757, 2973.2), 3: (9_958_397, 1328.9), 4: (9_921_469, 813.1)},
        _OURS,
    ),
    **_sizes(
        "hriusr_m",
        "HRIUSR",
        _HRIUSR_CLASSICAL | {"depths": [2] * 18},
        {2: (19_070_487, 5832.9), 3: (19_255_127, 2587.8), 4: (19_218_199, 1559.1)},
        _OURS,
    ),
    **_sizes(
        "hriusr_l",
        "HRIUSR",
        _HRIUSR_CLASSICAL | {"depths": [2] * 36},
        {2: (37_663_947, 11552.3), 3: (37_848_587, 5105.5), 4: (37_811_659, 3051.2)},
        _OURS,
    ),
    **_sizes("swinir_tiny", "SwinIR", _TINY | {"upsampler": "pixelshuffledirect"}, {2: (18_500, 4.6)}, _TINY_SOURCE),
    **_sizes("swinir_light", "SwinIR", _LIGHT, {2: (910_152, 244.4), 3: (918_267, 110.8), 4: (929_628, 63.6)}, _SWINIR),
    **_sizes(
        "swinir_classical",
        "SwinIR",
        _CLASSICAL | {"upsampler": "pixelshuffle"},
        {2: (11_752_487, 2887.2), 3: (11_937_127, 1319.3), 4: (11_900_199, 773.8), 8: (12_047_911, 239.4)},
        _SWINIR,
    ),
    **_sizes(
        "swinir_real_m",
        "SwinIR",
        _CLASSICAL | {"upsampler": "nearest+conv"},
        {2: (11_678_631, 2921.2), 4: (11_715_559, 808.5)},
        _SWINIR,
    ),
    **_sizes("swinir_real_l", "SwinIR", _REAL_LARGE, {4: (28_013_059, 1813.6)}, _SWINIR),
    **_sizes("swinir_denoise", "SwinIR", _CLASSICAL | {"upsampler": ""}, {1: (11_504_163, 11315.6)}, _SWINIR),
    **_sizes(
        "swinir_denoise_grey",
        "SwinIR",
        _CLASSICAL | {"upsampler": "", "in_chans": 1},
        {1: (11_497_681, 11309.6)},
        _SWINIR,
    ),
    **_sizes(
        "swinir_jpeg",
        "SwinIR",
        _CLASSICAL | {"window_size": 7, "upsampler": "", "img_range": 255.0},
        {1: (11_492_067, 11160.6)},
        _SWINIR,
    ),
    **_sizes(
        "swinir_jpeg_grey",
        "SwinIR",
        _CLASSICAL | {"window_size": 7, "upsampler": "", "img_range": 255.0, "in_chans": 1},
        {1: (11_485_585, 11154.6)},
        _SWINIR,
    ),
    **_sizes(
        "hat_tiny",
        "HAT",
        _TINY | {"compress_ratio": 4, "squeeze_factor": 4, "upsampler": "pixelshuffledirect"},
        {2: (28_552, 7.2)},
        _TINY_SOURCE,
    ),
    **_sizes(
        "hat_s",
        "HAT",
        _HAT | {"embed_dim": 144, "compress_ratio": 24, "squeeze_factor": 24},
        {2: (9_473_471, 3011.4), 3: (9_658_111, 1345.7), 4: (9_621_183, 823.1)},
        _HAT_PAPER,
    ),
    **_sizes(
        "hat",
        "HAT",
        _HAT | {"embed_dim": 180, "compress_ratio": 3, "squeeze_factor": 30},
        {2: (20_624_795, 5847.5), 3: (20_809_435, 2594.2), 4: (20_772_507, 1563.0)},
        _HAT_PAPER,
    ),
    **_sizes(
        "hat_l",
        "HAT",
        _HAT | {"depths": [6] * 12, "num_heads": [6] * 12, "embed_dim": 180, "compress_ratio": 3, "squeeze_factor": 30},
        {2: (40_698_863, 11564.1), 3: (40_883_503, 5110.7), 4: (40_846_575, 3054.2)},
        _HAT_PAPER,
    ),
    **_sizes(
        "swin2sr_tiny",
        "Swin2SR",
        _TINY | {"upsampler": "pixelshuffle_aux", "num_feat": 16},
        {2: (40_734, 8.1)},
        _TINY_SOURCE,
    ),
    **_sizes(
        "swin2sr_light",
        "Swin2SR",
        _LIGHT,
        {2: (1_005_348, 248.5), 3: (1_013_463, 112.7), 4: (1_024_824, 64.7)},
        _SWIN2SR,
    ),
    **_sizes(
        "swin2sr_classical",
        "Swin2SR",
        _CLASSICAL | {"upsampler": "pixelshuffle"},
        {2: (12_091_571, 2939.5), 3: (12_276_211, 1342.8), 4: (12_239_283, 787.2)},
        _SWIN2SR,
    ),
    **_sizes(
        "swin2sr_compressed",
        "Swin2SR",
        _CLASSICAL | {"upsampler": "pixelshuffle_aux"},
        {4: (12_244_598, 789.0)},
        _SWIN2SR,
    ),
    **_sizes(
        "swin2sr_real_m", "Swin2SR", _CLASSICAL | {"upsampler": "nearest+conv"}, {4: (12_054_643, 821.9)}, _SWIN2SR
    ),
    **_sizes("swin2sr_real_l", "Swin2SR", _REAL_LARGE, {4: (28_785_859, 1847.6)}, _SWIN2SR),
    **_sizes("hrvit_sr_tiny", "HRViTSR", _HRVIT_TINY, {2: (23_192, 4.0)}, _TINY_SOURCE),
    **_sizes("hrvit_sr_light", "HRViTSR", {}, {2: (875_496, 223.5), 4: (891_084, 56.8)}, _HRVIT),
    **_sizes(
        "hrvit_sr_light_imprinting",
        "HRViTSR",
        {"resampling": "imprinting"},
        {2: (936_872, 234.1), 4: (952_460, 61.1)},
        _HRVIT,
    ),
    **_sizes("hrvit_sr_s", "HRViTSR", _HRVIT_SMALL, {2: (9_235_731, 1451.3), 4: (9_383_443, 398.2)}, _HRVIT),
    **_sizes("mobilevit_sr_tiny", "MobileViTSR", _MOBILEVIT_TINY, {2: (20_220, 4.9)}, _TINY_SOURCE),
    **_sizes("mobilevit_sr_light", "MobileViTSR", {}, {2: (954_692, 246.0), 4: (972_872, 65.3)}, _MOBILEVIT),
    **_sizes(
        "mobilevit_sr_s", "MobileViTSR", _MOBILEVIT_SMALL, {2: (9_367_779, 2326.3), 4: (9_515_491, 644.4)}, _MOBILEVIT
    ),
    **_sizes(
        "involution_sr_tiny",
        "InvolutionSR",
        {"embed_dim": 16, "depths": [2, 2], "group_channels": 8},
        {2: (18_164, 4.8)},
        _TINY_SOURCE,
    ),
    **_sizes("involution_sr_light", "InvolutionSR", {}, {2: (902_828, 224.8), 4: (923_600, 57.4)}, _INVOLUTION),
    **_sizes(
        "involution_sr_s",
        "InvolutionSR",
        _INVOLUTION_SMALL,
        {2: (8_615_555, 2061.5), 4: (8_763_267, 550.5)},
        _INVOLUTION,
    ),
}
