"""Is it the same picture? Fingerprints of whole pictures, and of the spots in them.

A picture's fingerprint is its luma shrunk to 16 x 16, without mean and length: the product of two of them is their
correlation, which survives JPEG, another size, a few rows cut off, brightness and contrast. The eight fingerprints of
a flipped and turned picture are those of its flipped and turned thumbnail.

A crop has another thumbnail than its picture. What it shares is spots: corners (local maxima of the smaller eigenvalue
of the gradient matrix), each named by 64 comparisons of pixels around it (as BRIEF, ECCV 2010). Where many spots of two
pictures have the same names and all lie at the same offset, one is cut out of the other.
"""

from collections.abc import Sequence

import cv2
import numpy as np

THUMBNAIL = 16
_SMALLEST_CONTRAST = 4.0  # standard deviation of the thumbnail, of 255: below, noise would be compared

_CLOSE_UP = 64

_REACH = 12  # pixels around a corner that are compared
_CORNER_DISTANCE = 8
_SMALLEST_CORNER = 2e-4  # of cv2.cornerMinEigenVal on luma in 0..1; flat ground stays out
_MOST_SPOTS = 3000
_LEAST_AGREEING = 12  # spots with one offset; chance gives 1 to 3
_OFFSETS_AB = np.random.default_rng(0).integers(-_REACH, _REACH + 1, (2, 64, 2))


def luma_8bit(image_HWC: np.ndarray) -> np.ndarray:
    """Return (H, W) uint8 luma of an RGB picture of 8 or 16 bits."""
    if image_HWC.dtype == np.uint16:
        image_HWC = (image_HWC >> 8).astype(np.uint8)
    return cv2.cvtColor(np.ascontiguousarray(image_HWC), cv2.COLOR_RGB2GRAY)


def thumbnail(luma_HW: np.ndarray) -> np.ndarray | None:
    """Shrink luma to (16, 16) float32; None where the picture has too little contrast to be told from others."""
    small = cv2.resize(luma_HW, (THUMBNAIL, THUMBNAIL), interpolation=cv2.INTER_AREA).astype(np.float32)
    return None if small.std() < _SMALLEST_CONTRAST else small


def fingerprint(small: np.ndarray) -> np.ndarray:
    """Normalise a thumbnail: (256,) float32 of mean 0 and length 1."""
    vector = small.ravel() - small.mean()
    return vector / max(float(np.linalg.norm(vector)), 1e-6)


def eight_fingerprints(small: np.ndarray) -> np.ndarray:
    """Return the fingerprints (8, 256) of a picture's flips and turns, the picture itself first."""
    turned = [np.rot90(view, turns) for view in (small, small[:, ::-1]) for turns in range(4)]
    return np.stack([fingerprint(view) for view in turned])


def look_alike(first_HW: np.ndarray, second_HW: np.ndarray) -> float:
    """Correlate the details of two pictures, in whatever flip and turn they agree best.

    Sky above ground gives many a pair of thumbnails that correlate; their details do not.

    Args:
        first_HW: luma, uint8.
        second_HW: luma, uint8, of any size.

    Returns:
        Correlation: above 0.5 for copies, also after JPEG, shrinking or a border cut off.
    """
    details = []
    for luma_HW in (first_HW, second_HW):
        small = cv2.resize(luma_HW, (_CLOSE_UP, _CLOSE_UP), interpolation=cv2.INTER_AREA).astype(np.float32)
        inside = slice(6, -6)  # at the border blurring a slope leaves a rest
        details.append((small - cv2.GaussianBlur(small, (0, 0), 3))[inside, inside])
    own = fingerprint(details[0])
    return float((eight_fingerprints(details[1]) @ own).max())


def spots(luma_HW: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Find corners and name them.

    Args:
        luma_HW: uint8.

    Returns:
        Names (N,) uint64 and places (N, 2) int32, row and column; the strongest corners first.
    """
    luma = luma_HW.astype(np.float32) / 255
    strength = cv2.cornerMinEigenVal(luma, 3)
    size = 2 * _CORNER_DISTANCE + 1
    is_corner = (strength == cv2.dilate(strength, np.ones((size, size), np.uint8))) & (strength > _SMALLEST_CORNER)
    edge = _REACH + _CORNER_DISTANCE  # nearer to the border another maximum may lie outside of a crop
    is_corner[:edge], is_corner[-edge:], is_corner[:, :edge], is_corner[:, -edge:] = False, False, False, False
    places_N2 = np.argwhere(is_corner)
    strongest = np.argsort(-strength[tuple(places_N2.T)], kind="stable")[:_MOST_SPOTS]
    places_N2 = places_N2[strongest].astype(np.int32)
    rows, columns = (places_N2[:, axis, None, None] + _OFFSETS_AB[None, ..., axis] for axis in (0, 1))
    a_N64, b_N64 = np.moveaxis(luma_HW[rows, columns], 1, 0)
    return np.packbits(a_N64 < b_N64, axis=1).view(np.uint64).ravel(), places_N2


class SpotIndex:
    """Finds out which of many pictures another one shares pixels with."""

    def __init__(self, spots_of: Sequence[tuple[np.ndarray, np.ndarray]]):
        """Index pictures.

        Args:
            spots_of: as spots returns them, of each picture.
        """
        names = [names for names, _ in spots_of]
        places = [places for _, places in spots_of]
        all_names = np.concatenate([np.empty(0, np.uint64), *names])
        order = np.argsort(all_names, kind="stable")
        self._names = all_names[order]
        self._places = np.concatenate([np.empty((0, 2), np.int32), *places])[order]
        self._owners = np.repeat(np.arange(len(names)), [len(item) for item in names])[order]

    def find(self, names: np.ndarray, places: np.ndarray) -> int | None:
        """Return the number of the picture that shares most spots at one offset; None where none shares enough."""
        first = np.searchsorted(self._names, names)
        votes: dict[tuple[int, int, int], int] = {}
        for start, name, place in zip(first, names, places, strict=True):
            at = start
            while at < len(self._names) and self._names[at] == name:
                row, column = self._places[at] - place
                key = (int(self._owners[at]), int(row), int(column))
                votes[key] = votes.get(key, 0) + 1
                at += 1
        if not votes:
            return None
        (owner, _, _), most = max(votes.items(), key=lambda item: item[1])
        return owner if most >= _LEAST_AGREEING else None
