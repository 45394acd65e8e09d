"""Fingerprints tell pictures apart and their copies not; spots find crops and nothing else."""

import cv2
import numpy as np
import pytest

from hriusr.doctor.fingerprints import (
    SpotIndex,
    eight_fingerprints,
    fingerprint,
    look_alike,
    luma_8bit,
    spots,
    thumbnail,
)
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


@pytest.mark.parametrize("name", NAMES)
def test_details_of_copies_are_alike_and_of_others_not(photo, name):
    luma = luma_8bit(photo(name))
    _, content = cv2.imencode(".jpg", luma, [cv2.IMWRITE_JPEG_QUALITY, 40])
    halved = cv2.resize(luma, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
    for copy in (cv2.imdecode(content, 0), halved, luma[3:, :-2], np.ascontiguousarray(luma[:, ::-1])):
        assert look_alike(luma, copy) > 0.55
    assert max(look_alike(luma, luma_8bit(photo(other))) for other in NAMES if other != name) < 0.25


def test_one_gradient_is_not_another_picture():
    """Two skies: the same thumbnail, other details."""
    generator = np.random.default_rng(0)
    sky = np.linspace(60, 200, 256)[:, None]
    first, second = ((sky + generator.normal(0, 3, (256, 256))).clip(0, 255).astype(np.uint8) for _ in range(2))
    assert fingerprint(thumbnail(first)) @ fingerprint(thumbnail(second)) > SAME
    assert look_alike(first, second) < 0.25


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
