"""What one picture or pair of a dataset is like: read once, in a process of its own if need be."""

import hashlib
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from hriusr.data.image_io import image_size, read_image, read_image_bytes
from hriusr.data.lmdb_store import lmdb_get
from hriusr.doctor.fingerprints import luma_8bit, spots, thumbnail
from hriusr.doctor.low_resolution import Match, match_low_resolution
from hriusr.errors import DataError


@dataclass(frozen=True)
class Source:
    """Where a picture is.

    Attributes:
        path: file, or key in a database.
        database: X.lmdb; None: a file.
    """

    path: str
    database: str | None = None

    def __str__(self) -> str:
        return f"{self.database}:{self.path}" if self.database else self.path

    def read(self) -> np.ndarray:
        """Read it, (H, W, 3) RGB; DataError as read_image."""
        if self.database:
            return read_image_bytes(lmdb_get(self.database, self.path), str(self))
        return read_image(self.path)


@dataclass(frozen=True)
class Item:
    """One picture or pair to look at.

    Attributes:
        picture: the ground truth, or the only picture.
        lq: its low-resolution partner; None: none, or made from the ground truth.
        scale: between the two.
    """

    picture: Source
    lq: Source | None
    scale: int


@dataclass
class PictureFacts:
    """What was seen.

    Attributes:
        source: where it is.
        problems: what makes it unusable, in words.
        size: (H, W); None where it cannot be read.
        lq_size: of the partner.
        digest: of the pixels.
        small: thumbnail, see fingerprints; None: unreadable or without contrast.
        spots: names and places, see fingerprints.
        match: how lq was made; None: no partner, or of another size.
        is_flat: hardly any contrast anywhere.
        is_grey: three equal channels.
        is_jpeg: compressed with losses.
        bits: a channel.
    """

    source: Source
    problems: list[str] = field(default_factory=list)
    size: tuple[int, int] | None = None
    lq_size: tuple[int, int] | None = None
    digest: str = ""
    small: np.ndarray | None = None
    spots: tuple[np.ndarray, np.ndarray] | None = None
    match: Match | None = None
    is_flat: bool = False
    is_grey: bool = False
    is_jpeg: bool = False
    bits: int = 8

    @property
    def name(self) -> str:
        """File or key, for messages."""
        return str(self.source)


def look_at(item: Item) -> PictureFacts:
    """Read a picture and its partner and say what they are like; raises nothing that is the pictures' fault."""
    facts = PictureFacts(item.picture)
    picture_HWC = _read(item.picture, facts)
    lq_HWC = _read(item.lq, facts) if item.lq else None
    if picture_HWC is None:
        return facts
    luma_HW = luma_8bit(picture_HWC)
    facts.size = picture_HWC.shape[:2]
    facts.bits = 16 if picture_HWC.dtype == np.uint16 else 8
    facts.digest = hashlib.blake2b(picture_HWC.tobytes(), digest_size=16, key=str(facts.size).encode()).hexdigest()
    facts.is_flat = float(luma_HW.std()) < 2
    facts.is_grey = bool((picture_HWC[..., 0] == picture_HWC[..., 1]).all() and not np.ptp(picture_HWC, axis=2).any())
    facts.is_jpeg = Path(item.picture.path).suffix.lower() in (".jpg", ".jpeg")
    facts.small = thumbnail(luma_HW)
    facts.spots = spots(luma_HW)
    if lq_HWC is not None:
        facts.lq_size = lq_HWC.shape[:2]
        _compare(picture_HWC, lq_HWC, item.scale, facts)
    return facts


def glance(item: Item) -> PictureFacts:
    """Read the sizes of a picture and its partner from their headers; pictures in databases are passed over."""
    facts = PictureFacts(item.picture)
    if item.picture.database is None:
        try:
            facts.size = image_size(item.picture.path)
            facts.lq_size = image_size(item.lq.path) if item.lq else None
        except DataError as error:
            facts.problems.append(str(error))
    return facts


def _read(source: Source, facts: PictureFacts) -> np.ndarray | None:
    try:
        return source.read()
    except DataError as error:
        facts.problems.append(str(error))
        return None


def _compare(gt_HWC: np.ndarray, lq_HWC: np.ndarray, scale: int, facts: PictureFacts) -> None:
    height, width = lq_HWC.shape[0] * scale, lq_HWC.shape[1] * scale
    fits = gt_HWC.shape[0] >= height and gt_HWC.shape[1] >= width
    if fits and gt_HWC.dtype == lq_HWC.dtype and min(lq_HWC.shape[:2]) >= 8:
        facts.match = match_low_resolution(gt_HWC[:height, :width], lq_HWC, scale)
