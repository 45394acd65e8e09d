"""Heads: output sizes, published names, errors."""

import pytest
import torch
from torch import nn

from hriusr.blocks.upsamplers import UPSAMPLER_KINDS, add_steps, build_upsampler, run_steps, upscale_factors


class Head(nn.Module):
    def __init__(self, *arguments, **more):
        super().__init__()
        self.steps = add_steps(self, build_upsampler(*arguments, **more))

    def forward(self, x):
        return run_steps(self, self.steps, x)


@pytest.mark.parametrize("kind", UPSAMPLER_KINDS[:3])
@pytest.mark.parametrize("scale", [1, 2, 3, 4, 8])
def test_output_is_scale_times_as_large(kind, scale):
    assert Head(kind, 10, 3, scale, num_feat=8)(torch.randn(2, 10, 3, 5)).shape == (2, 3, 3 * scale, 5 * scale)


@pytest.mark.parametrize(
    ("kind", "scale", "names"),
    [
        ("pixelshuffle", 4, "conv_before_upsample.0 upsample.0 upsample.2 conv_last"),
        ("pixelshuffle", 3, "conv_before_upsample.0 upsample.0 conv_last"),
        ("pixelshuffledirect", 3, "upsample.0"),
        ("nearest+conv", 4, "conv_before_upsample.0 conv_up1 conv_up2 conv_hr conv_last"),
        ("", 1, "conv_last"),
        (None, 1, "conv_last"),
    ],
)
def test_layers_lie_at_the_top_level_under_their_published_names(kind, scale, names):
    assert [
        key[: -len(".weight")] for key in Head(kind, 10, 3, scale).state_dict() if key.endswith("weight")
    ] == names.split()


def test_scale_splits_into_factors():
    assert [upscale_factors(scale) for scale in (1, 2, 3, 4, 8)] == [[], [2], [3], [2, 2], [2, 2, 2]]


@pytest.mark.parametrize("kind", UPSAMPLER_KINDS[:3])
@pytest.mark.parametrize("scale", [0, 5, 6, 2.5, -2])
def test_unsupported_scale_is_named(kind, scale):
    with pytest.raises(ValueError, match=rf"upscale \(={scale}\) must be 3 or a power of 2"):
        build_upsampler(kind, 10, 3, scale)


def test_unknown_kind_lists_the_known_ones():
    with pytest.raises(ValueError, match=r"upsampler \(='pixelshufle'\) must be one of .*nearest\+conv"):
        build_upsampler("pixelshufle", 10, 3, 2)


def test_no_upsampler_with_a_scale_is_refused():
    with pytest.raises(ValueError, match=r"upscale \(=2\) must be 1 without an upsampler"):
        build_upsampler("", 10, 3, 2)
