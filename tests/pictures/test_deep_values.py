"""Depth of PGM, PPM and JPEG 2000 is kept; where it cannot be, a note says so."""

import cv2
import numpy as np
import pytest
from PIL import Image

from hriusr.errors import DataError
from hriusr.pictures.source import count_pixels, open_source


def noise(shape, greatest=65535):
    return np.random.default_rng(0).integers(0, greatest, shape, np.uint16, endpoint=True)


def rows_of(path):
    with open_source(path) as source:
        return source.read_rows(0, source.height).copy(), source.notes


@pytest.mark.parametrize("greatest", [256, 1023, 4095, 65535])
@pytest.mark.parametrize("kind", ["P2", "P3", "P5", "P6"])
def test_pgm_and_ppm_beyond_8_bits_are_scaled_by_their_greatest_value(tmp_path, kind, greatest):
    pixels = noise((9, 13, 1 if kind in ("P2", "P5") else 3), greatest)
    pixels[0, 0] = greatest
    header = f"{kind} # made by\n#a camera\n13 9\n{greatest}\n".encode()
    is_text = kind in ("P2", "P3")
    values = " ".join(map(str, pixels.ravel())).encode() + b" # end\n" if is_text else pixels.astype(">u2").tobytes()
    (tmp_path / "a.ppm").write_bytes(header + values)
    rows, notes = rows_of(tmp_path / "a.ppm")
    assert (rows.dtype, notes) == (np.uint16, ())
    assert np.array_equal(rows, np.round(pixels.astype(np.float64) * 65535 / greatest))
    assert count_pixels(tmp_path / "a.ppm") == 117


def test_pgm_and_ppm_of_8_bits_stay_so(tmp_path):
    for suffix, pixels in (("pgm", noise((9, 13), 255)), ("ppm", noise((9, 13, 3), 255))):
        Image.fromarray(pixels.astype(np.uint8)).save(tmp_path / f"a.{suffix}")
        rows, _ = rows_of(tmp_path / f"a.{suffix}")
        assert rows.dtype == np.uint8
        assert np.array_equal(rows.squeeze(), pixels)


@pytest.mark.parametrize("kind", ["P3", "P6"])
def test_a_deep_ppm_that_is_cut_off_is_damaged(tmp_path, kind):
    content = b"9 8 7" if kind == "P3" else bytes(100)
    (tmp_path / "a.ppm").write_bytes(f"{kind} 13 9 65535\n".encode() + content)
    with pytest.raises(DataError, match=r"is damaged or cut off \(\d+ of 351 values\)"):
        rows_of(tmp_path / "a.ppm")


@pytest.mark.parametrize("num_channels", [1, 3])
def test_jpeg_2000_of_16_bits_equals_opencvs(tmp_path, num_channels):
    pixels = np.cumsum(noise((40, 48, num_channels), 300), axis=1, dtype=np.uint16) * 5
    assert cv2.imwrite(str(tmp_path / "a.jp2"), pixels[..., ::-1])
    rows, notes = rows_of(tmp_path / "a.jp2")
    expected = cv2.imread(str(tmp_path / "a.jp2"), cv2.IMREAD_UNCHANGED).reshape(40, 48, num_channels)
    assert (rows.dtype, notes) == (np.uint16, ())
    assert np.array_equal(rows, expected[..., ::-1])


def test_depth_that_is_lost_is_noted(tmp_path):
    values = noise((40, 48, 4))
    assert cv2.imwrite(str(tmp_path / "alpha.jp2"), values)
    header = bytes([1, 218, 0, 2]) + np.array([3, 48, 40, 3], ">u2").tobytes() + bytes(500)
    (tmp_path / "a.sgi").write_bytes(header + values[..., :3].astype(">u2").tobytes())
    for name in ("alpha.jp2", "a.sgi"):
        rows, notes = rows_of(tmp_path / name)
        assert rows.dtype == np.uint8
        assert notes == ("only 8 of its 16 bits a channel are read: save it as PNG or TIFF to keep them",)


@pytest.mark.parametrize("share", [0.3, 0.9])
def test_a_deep_jpeg_2000_that_is_cut_off_is_damaged(tmp_path, capfd, share):
    path = tmp_path / "a.jp2"
    cv2.imwrite(str(path), noise((60, 70, 3)))
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    with pytest.raises(DataError, match="is damaged or cut off"):
        rows_of(path)
    assert capfd.readouterr().err == ""
