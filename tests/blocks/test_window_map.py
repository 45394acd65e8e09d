import pytest
import torch

from hriusr.blocks.window_map import map_windows


@pytest.mark.parametrize("at_once", [1, 2, 3, 5, 10, 15, 100])
@pytest.mark.parametrize(("shift", "target"), [(0, 4), (2, 4), (3, 4), (2, 2)])
def test_windows_in_parts_equal_all_at_once(at_once, shift, target):
    """Each window gets its own number, and its result comes to its own place."""
    x_BHWC = torch.randn(2, 12, 20, 3)

    def function(x_MNC, numbers):
        assert len(x_MNC) == len(numbers)
        number = torch.tensor(numbers)[:, None, None]
        return x_MNC[:, : target**2].cumsum(1) * (number + 1)

    arguments = ((4, 4), (shift, shift), function)
    whole = map_windows(x_BHWC, *arguments, target_size=(target, target))
    parts = map_windows(x_BHWC, *arguments, target_size=(target, target), windows_at_once=at_once)
    assert whole.shape == (2, 12 * target // 4, 20 * target // 4, 3)
    assert torch.equal(parts, whole)
