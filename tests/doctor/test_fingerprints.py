"""Fingerprints tell pictures apart and their copies not; spots find crops and nothing else."""

import cv2
import numpy as np
import pytest

from hriusr.doctor.fingerprints import SpotIndex, eight_fingerprints, fingerprint, luma_8bit, spots, thumbnail
from hriusr.doctor.leaks import SAME

NAMES = ("astronaut", "chelsea", "coffee", "rocket", "hubble_deep_field", "immunohistochemistry", "retina")


def print_of(picture):
    return fingerprint(thumbnail(luma_8bit(picture)))


@pytest.mark.parametrize("name", NAMES)
def test_copies_correlate_and_others_do_not(photo, name):
    picture = photo(name)
    own = print_of(picture)
    small = cv2.resize(picture, None, fx=0.37, fy=0.37, interpolation=cv2.INTER_AREA)
    darker = (picture * 0.7).astype(np.uint8)
    for copy in (small, darker, picture[3:, :-4]):
        assert own @ print_of(copy) > SAME
    others = [print_of(photo(other)) for other in NAMES if other != name]
    assert max(float(own @ other) for other in others) < SAME - 0.05


def test_eight_fingerprints_hold_every_flip_and_turn(photo):
    picture = photo("coffee")[:400, :400]
    eight = eight_fingerprints(thumbnail(luma_8bit(picture)))
    for flipped in (picture, picture[::-1], picture[:, ::-1], picture.swapaxes(0, 1), np.rot90(picture, 2)):
        assert (eight @ print_of(np.ascontiguousarray(flipped))).max() > 0.999


def test_flat_picture_has_no_thumbnail():
    assert thumbnail(np.full((40, 40), 90, np.uint8)) is None


def test_crop_shares_spots_with_its_picture_alone(photo):
    lumas = [luma_8bit(photo(name)) for name in NAMES[:4]]
    index = SpotIndex([spots(luma) for luma in lumas])
    for number, luma in enumerate(lumas):
        assert index.find(*spots(luma[150:390, 121:361])) == number
    for name in NAMES[4:]:
        assert index.find(*spots(luma_8bit(photo(name)))) is None


def test_empty_index_finds_nothing(photo):
    assert SpotIndex([]).find(*spots(luma_8bit(photo("coffee")))) is None
