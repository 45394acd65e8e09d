"""Where tiles lie: one axis of a picture cut into overlapping tiles of one length (pure arithmetic, no tensors).

    |<------------- tile i ------------->|
                               |<------------- tile i+1 ------------->|
                               |<- >= 2p ->|
                               | m | zone | m |                          p = tile_overlap = m + half a zone

Tile i counts up to the zone, tile i+1 from the zone on; inside the zone one fades into the other. The margin m at a
tile's inner ends is read for context only: its pixels see a cut-off neighbourhood and are never shown. The ends of
the picture itself have no margin and no fade, so every pixel there counts in full.

Every origin is a multiple of `alignment` (the network's window), so windows fall in a tile as they fall in the whole
picture. All tiles are equally long, and the length is congruent to the picture's modulo `alignment`: so the last tile
ends where the picture ends, on an aligned origin, and the network completes the last window as it does for the whole.

Lengths are pixels of the low-resolution picture.
"""

from dataclasses import dataclass
from itertools import pairwise

from torch import nn


@dataclass(frozen=True)
class AxisPlan:
    """The tiles of one axis.

    Attributes:
        size: length of the picture.
        tile: length of every tile; never more than size.
        origins: first pixel of each tile, rising from 0 to size - tile.
        zones: (first, past-the-end) pixel of each fade, between tile i and tile i+1; one fewer than origins.
    """

    size: int
    tile: int
    origins: tuple[int, ...]
    zones: tuple[tuple[int, int], ...]

    def kept(self, index: int) -> tuple[int, int]:
        """Return (first, past-the-end) pixel of the picture to which a tile contributes."""
        start = self.zones[index - 1][0] if index > 0 else 0
        stop = self.zones[index][1] if index < len(self.zones) else self.size
        return start, stop


def _check(size: int, tile_size: int | None, tile_overlap: int, blend: int, alignment: int) -> None:
    for name, value, least in (
        ("size", size, 1),
        ("tile_size", tile_size, 1),
        ("tile_overlap", tile_overlap, 0),
        ("alignment", alignment, 1),
    ):
        if value is not None and value < least:
            raise ValueError(f"{name} (={value}) must be at least {least}")
    if not 0 <= blend <= tile_overlap:
        raise ValueError(f"blend (={blend}) must lie between 0 and tile_overlap (={tile_overlap})")


def plan_axis(
    size: int, tile_size: int | None, tile_overlap: int, *, blend: int | None = None, alignment: int = 1
) -> AxisPlan:
    """Cut one axis into the fewest tiles of at most the given size, and make those as small as they can be.

    Args:
        size: length of the picture, pixels.
        tile_size: pixels of a tile that are its own (HAT's `tile_size`), rounded up to a multiple of alignment; a
            tile reads up to tile_size + 2 * tile_overlap (+ alignment - 1) pixels. None: one tile.
        tile_overlap: pixels read beyond that on each side (HAT's `tile_pad`).
        blend: half the width of a fade; the other tile_overlap - blend pixels are context only. Default: half of
            tile_overlap. With 0 a tile's own pixels are cut hard, exact if the network sees at most tile_overlap far.
        alignment: tile origins are multiples of this.

    Returns:
        The plan; neighbouring tiles share at least 2 * tile_overlap pixels.

    Raises:
        ValueError: a number is out of range.
    """
    blend = tile_overlap // 2 if blend is None else blend
    _check(size, tile_size, tile_overlap, blend, alignment)
    shared = 2 * tile_overlap
    if tile_size is None or size <= -(-tile_size // alignment) * alignment + shared:
        return AxisPlan(size, size, (0,), ())

    tile = -(-tile_size // alignment) * alignment + shared
    tile += (size - tile) % alignment  # congruent to the picture, so that the last origin is aligned too

    def steps_needed(tile: int) -> int:
        """Count the tiles after the first; neighbours are at most `stride` apart, an aligned distance."""
        stride = (tile - shared) // alignment * alignment
        return -(-(size - tile) // stride)

    num_steps = steps_needed(tile)
    while tile - alignment - shared >= alignment and steps_needed(tile - alignment) == num_steps:
        tile -= alignment
    if num_steps == 0:
        return AxisPlan(size, size, (0,), ())

    aligned_length = (size - tile) // alignment
    origins = tuple(aligned_length * step // num_steps * alignment for step in range(num_steps + 1))
    middles = [(left + tile + right) // 2 for left, right in pairwise(origins)]
    return AxisPlan(size, tile, origins, tuple((middle - blend, middle + blend) for middle in middles))


def default_overlap(alignment: int) -> int:
    """Return the tile overlap used when none is given: two windows, but 16 to 32 pixels, and one window at least.

    For windows of 8 and 16 pixels that is what the authors of SwinIR (32 shared by two tiles) and HAT (tile_pad 32)
    ship. HRIUSR's low-resolution branch makes its windows 32 pixels large.
    """
    return max(16, min(2 * alignment, 32), alignment)


def network_alignment(network: nn.Module) -> int:
    """Return the multiple on which a network's windows fall: its `size_multiple`, else its `window_size`, else 1."""
    for name in ("size_multiple", "window_size"):
        value = getattr(network, name, None)
        if isinstance(value, int):
            return value
        if isinstance(value, (tuple, list)) and value:
            return max(value)
    return 1
