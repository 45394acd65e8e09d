import pytest
import torch
import torch.nn.functional as F

from hriusr.blocks.windows import (
    ShiftRegions,
    pad_to_multiple,
    reflect_indices,
    window_merge,
    window_partition,
)


@pytest.mark.parametrize(("height", "width", "window"), [(16, 24, 8), (12, 6, (4, 3)), (1, 1, 1)])
def test_partition_then_merge_is_identity(height, width, window):
    x = torch.randn(2, height, width, 5)
    assert torch.equal(window_merge(window_partition(x, window), window, height, width), x)


def test_partition_orders_windows_and_cells_row_major():
    x = torch.arange(4 * 6).view(1, 4, 6, 1)
    windows = window_partition(x, (2, 3))
    assert windows[1, :, 0].tolist() == [3, 4, 5, 9, 10, 11]


@pytest.mark.parametrize(("height", "width"), [(17, 23), (5, 64), (1, 1), (2, 9)])
def test_padding_reflects_where_it_can_and_replicates_where_it_cannot(height, width):
    x = torch.randn(1, 2, height, width)
    padded = pad_to_multiple(x, 8)
    assert padded.shape[2] % 8 == 0
    assert padded.shape[3] % 8 == 0
    assert torch.equal(padded[..., :height, :width], x)
    rows = -height % 8
    expected_column = F.pad(x, (0, 0, 0, rows), mode="reflect" if rows < height else "replicate")
    assert torch.equal(padded[..., :width], expected_column)


@pytest.mark.parametrize(("length", "padded_length"), [(17, 24), (5, 8), (4, 8), (1, 8), (8, 8)])
def test_branchless_padding_equals_pad(length, padded_length):
    x = torch.randn(1, 1, length)
    pad = padded_length - length
    expected = F.pad(x, (0, pad), mode="reflect" if pad < length else "replicate")
    index = reflect_indices(length, padded_length, x.device)
    assert torch.equal(x[..., index], expected)


def test_masks_equal_the_channels_that_do_the_same():
    regions = ShiftRegions((4, 4), (2, 2), (2, 2))
    grid = (2, 3)
    expected_MPN = regions.query_channels(grid, -5.0) @ regions.key_channels().T
    masks = regions.masks(range(3, 12), grid, -5.0)  # the last three of one map, six of the next
    for index, number in enumerate(range(3, 12)):
        assert torch.equal(masks.get(index, torch.zeros(4, 16)), expected_MPN[number % 6])
