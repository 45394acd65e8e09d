"""Tile geometry: coverage, alignment, overlap, margins."""

import pytest
from torch import nn

from hriusr.upscaling.tile_plan import AxisPlan, default_overlap, network_alignment, plan_axis

SIZES = [1, 2, 7, 8, 9, 31, 32, 33, 63, 64, 65, 97, 128, 509, 1411]


@pytest.mark.parametrize("alignment", [1, 8, 12])
@pytest.mark.parametrize("tile_overlap", [0, 1, 5, 16])
@pytest.mark.parametrize("tile_size", [1, 7, 16, 33])
def test_tiles_cover_align_overlap_and_keep_their_margin(tile_size, tile_overlap, alignment):
    longest = -(-tile_size // alignment) * alignment + 2 * tile_overlap + alignment - 1
    margin = tile_overlap - tile_overlap // 2
    for size in SIZES:
        plan = plan_axis(size, tile_size, tile_overlap, alignment=alignment)
        assert plan.tile <= min(size, longest)
        assert (plan.origins[0], plan.origins[-1] + plan.tile) == (0, size)
        assert all(origin % alignment == 0 for origin in plan.origins)
        steps = [right - left for left, right in zip(plan.origins[:-1], plan.origins[1:], strict=True)]
        assert all(0 < step <= plan.tile - 2 * tile_overlap for step in steps)
        for index, origin in enumerate(plan.origins):
            start, stop = plan.kept(index)
            assert origin + (margin if index else 0) <= start < stop
            assert stop <= origin + plan.tile - (margin if index + 1 < len(plan.origins) else 0)


def test_fewest_tiles_then_smallest_tile():
    assert plan_axis(600, 512, 32, alignment=16) == AxisPlan(600, 344, (0, 256), ((284, 316),))


def test_no_tile_size_is_one_tile():
    assert plan_axis(77, None, 16) == AxisPlan(77, 77, (0,), ())


@pytest.mark.parametrize(
    ("arguments", "more", "message"),
    [
        ((0, 8, 2), {}, r"size \(=0\) must be at least 1"),
        ((9, 0, 2), {}, r"tile_size \(=0\) must be at least 1"),
        ((9, 8, -1), {}, r"tile_overlap \(=-1\) must be at least 0"),
        ((9, 8, 2), {"alignment": 0}, r"alignment \(=0\) must be at least 1"),
        ((9, 8, 2), {"blend": 3}, r"blend \(=3\) must lie between 0 and tile_overlap \(=2\)"),
    ],
)
def test_a_number_out_of_range_is_named(arguments, more, message):
    with pytest.raises(ValueError, match=message):
        plan_axis(*arguments, **more)


def test_default_overlap_is_two_windows_as_hat_and_swinir_ship_it():
    assert [default_overlap(alignment) for alignment in (1, 8, 16, 32, 40)] == [16, 16, 32, 32, 40]


@pytest.mark.parametrize(
    ("attributes", "expected"),
    [({}, 1), ({"window_size": 8}, 8), ({"window_size": (4, 8)}, 8), ({"window_size": 8, "size_multiple": 16}, 16)],
)
def test_alignment_is_read_from_the_network(attributes, expected):
    network = nn.Identity()
    for name, value in attributes.items():
        setattr(network, name, value)
    assert network_alignment(network) == expected
