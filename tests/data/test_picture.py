"""Picture files with transparency, grey and 16 bits: what is written comes back."""

import numpy as np
import pytest
from PIL import Image

from hriusr.data.picture import Picture, read_picture, write_picture
from hriusr.errors import DataError


def noise(shape, dtype):
    return np.random.default_rng(0).integers(0, np.iinfo(dtype).max, shape, dtype=dtype, endpoint=True)


@pytest.mark.parametrize(
    ("suffix", "dtype"),
    [(".png", np.uint8), (".png", np.uint16), (".tif", np.uint8), (".tif", np.uint16), (".webp", np.uint8)],
)
@pytest.mark.parametrize("has_alpha", [False, True])
def test_colour_and_alpha_come_back(tmp_path, suffix, dtype, has_alpha):
    alpha = noise((9, 13), dtype) if has_alpha else None
    picture = Picture(noise((9, 13, 3), dtype), alpha)
    write_picture(tmp_path / f"x{suffix}", picture)
    back = read_picture(tmp_path / f"x{suffix}")
    assert back.colour_HWC.dtype == dtype
    assert np.array_equal(back.colour_HWC, picture.colour_HWC)
    assert np.array_equal(back.alpha_HW, alpha) if has_alpha else back.alpha_HW is None
    assert not back.is_grey


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_grey_stays_grey(tmp_path, suffix, dtype):
    grey = np.repeat(noise((9, 13, 1), dtype), 3, axis=2)
    write_picture(tmp_path / f"x{suffix}", Picture(grey, None, is_grey=True))
    back = read_picture(tmp_path / f"x{suffix}")
    assert back.is_grey
    assert np.array_equal(back.colour_HWC, grey)


def test_grey_with_alpha_and_palette_with_alpha_are_read(tmp_path):
    grey_alpha = noise((9, 13, 2), np.uint8)
    Image.fromarray(grey_alpha).save(tmp_path / "grey.png")
    back = read_picture(tmp_path / "grey.png")
    assert back.is_grey
    assert np.array_equal(back.colour_HWC[..., 1], grey_alpha[..., 0])
    assert np.array_equal(back.alpha_HW, grey_alpha[..., 1])
    Image.fromarray(noise((9, 13, 3), np.uint8)).quantize(8).save(tmp_path / "palette.png", transparency=0)
    assert set(np.unique(read_picture(tmp_path / "palette.png").alpha_HW)) == {0, 255}


@pytest.mark.parametrize("has_alpha", [False, True])
def test_orientation_is_applied(tmp_path, has_alpha):
    image = Image.fromarray(noise((9, 13, 4 if has_alpha else 3), np.uint8))
    exif = Image.Exif()
    exif[0x0112] = 6  # to be shown turned by 90 degrees
    image.save(tmp_path / "x.webp", exif=exif, lossless=True, exact=True)
    assert np.array_equal(read_picture(tmp_path / "x.webp").colour_HWC, np.rot90(np.array(image)[..., :3], -1))


@pytest.mark.parametrize(
    ("suffix", "dtype", "message"),
    [
        (".jpg", np.uint8, "cannot write .*x.jpg: .jpg cannot hold transparency: use .png, .webp or .tif"),
        (".webp", np.uint16, "cannot write .*x.webp: .webp cannot hold 16 bits a channel: use .png or .tif"),
    ],
)
def test_format_that_cannot_hold_it_is_refused(tmp_path, suffix, dtype, message):
    with pytest.raises(DataError, match=message):
        write_picture(tmp_path / f"x{suffix}", Picture(noise((9, 13, 3), dtype), noise((9, 13), dtype)))
    assert not list(tmp_path.iterdir())


def test_truncated_picture_with_alpha_is_named(tmp_path, capfd):
    path = tmp_path / "half.png"
    Image.fromarray(noise((40, 40, 4), np.uint8)).save(path)
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(DataError, match=r"half.png is cut off .*: copy or download it again"):
        read_picture(path)
    assert not capfd.readouterr().err
