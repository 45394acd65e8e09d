"""Results of any size: by scale, width, height; what contradicts is named."""

import numpy as np
import pytest

from hriusr.data.image_io import read_image, write_image
from hriusr.errors import OptionsError
from hriusr.upscaling.output_size import OutputSize
from hriusr.upscaling.upscale import upscale_path
from tests.upscaling.nearest_network import Nearest


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        (OutputSize(scale=3.7), (74, 111)),
        (OutputSize(scale=0.5), (10, 15)),
        (OutputSize(width=45), (30, 45)),
        (OutputSize(height=50), (50, 75)),
        (OutputSize(width=7, height=9), (9, 7)),
    ],
)
def test_any_size_of_the_result(tmp_path, size, expected):
    write_image(tmp_path / "a.png", np.full((20, 30, 3), 77, np.uint8))
    report = upscale_path(tmp_path / "a.png", tmp_path / "b.png", network=Nearest(), size=size)
    result = read_image(tmp_path / "b.png")
    assert result.shape == (*expected, 3)
    assert (result == 77).all()
    assert report.outcomes[0].size == expected
    goes_beyond = expected[0] > 40
    assert any("beyond is bicubic" in note for note in report.outcomes[0].notes) == goes_beyond


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"scale": 0}, r"scale \(=0\) must be above 0"),
        ({"width": -1}, r"width \(=-1\) must be above 0"),
        ({"scale": 2.5, "width": 9}, r"scale \(=2\.5\) and width or height contradict each other"),
    ],
)
def test_a_wrong_size_is_named(more, message):
    with pytest.raises(OptionsError, match=message):
        OutputSize(**more)
