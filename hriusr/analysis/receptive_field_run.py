"""`hriusr erf`: the effective receptive field of a network over random crops, as a picture and numbers."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from hriusr.analysis.attribution_picture import field_picture
from hriusr.analysis.receptive_field import describe_field, effective_receptive_field
from hriusr.analysis.subject import read_low_resolution
from hriusr.atomic_file import check_writable, write_atomically
from hriusr.data.image_io import check_suffix, write_image
from hriusr.data.transforms import choose_corner
from hriusr.errors import DataError, HriusrError
from hriusr.upscaling.picture_upscaler import PictureUpscaler


def random_crops(
    pictures: Sequence[Path], *, count: int, size: int, seed: int, scale: int, is_hr: bool, num_channels: int
) -> Iterator[np.ndarray]:
    """Yield random squares of pictures, taken in turn; of noise (uniform in 0..1) where there is no picture.

    Args:
        pictures: files.
        count: how many crops.
        size: side, low-resolution pixels.
        seed: of the places, or of the noise.
        scale: as read_low_resolution has it.
        is_hr: likewise.
        num_channels: likewise.

    Raises:
        DataError: a picture cannot be read or is smaller than a crop.
    """
    generator = np.random.default_rng(seed)
    for number in range(count):
        if not pictures:
            yield generator.random((size, size, num_channels), np.float32)
            continue
        path = pictures[number % len(pictures)]
        image_HWC = read_low_resolution(path, scale=scale, is_hr=is_hr, num_channels=num_channels)
        height, width = image_HWC.shape[:2]
        if min(height, width) < size:
            raise DataError(f"{path} has {width}x{height} low-resolution pixels, less than --size {size}: take less")
        top, left = choose_corner((height, width), size, generator)
        yield image_HWC[top : top + size, left : left + size]


def measure_field(
    upscaler: PictureUpscaler,
    pictures: Sequence[Path],
    target: str | Path,
    *,
    count: int = 16,
    size: int = 64,
    seed: int = 0,
    is_hr: bool = False,
    about: Mapping[str, Any] | None = None,
    progress: Callable[[str, int, int], None] | None = None,
) -> dict[str, Any]:
    """Measure an effective receptive field, draw it and write it.

    Args:
        upscaler: the network on its device.
        pictures: files; none for noise.
        target: gets the picture; the numbers go beside it, ending in .json.
        count: crops.
        size: their side, low-resolution pixels.
        seed: of the crops.
        is_hr: the pictures are high resolution, to be shrunk first.
        about: put in front of the numbers, what JSON can hold.
        progress: called after each crop.

    Returns:
        What was written as JSON.

    Raises:
        DataError: a picture cannot be read or is too small, or the target cannot be written so, or is one of them.
        HriusrError: out of memory; or the network's centre depends on no pixel.
    """

    def show(done: int) -> None:
        if progress is not None:
            progress("crop", done, count)

    check_suffix(target)
    if Path(target).resolve() in {Path(picture).resolve() for picture in pictures}:
        raise DataError(f"{target} is one of the pictures that are looked at: give another output")
    check_writable(target)
    reading = {"scale": upscaler.scale, "is_hr": is_hr, "num_channels": upscaler.num_channels}
    crops = random_crops(pictures, count=count, size=size, seed=seed, **reading)
    field_HW = effective_receptive_field(upscaler.network, crops, scale=upscaler.scale, progress=show)
    if not field_HW.max() > 0:
        raise HriusrError("the network's centre pixel depends on no input pixel: its weights are broken")
    numbers = {
        **(about or {}),
        "scale": upscaler.scale,
        "pictures": [str(path) for path in pictures] or "uniform noise",
        "made_from_hr": is_hr,
        "count": count,
        "size": size,
        "seed": seed,
        "device": str(upscaler.device),
        **describe_field(field_HW),
    }
    write_image(target, field_picture(field_HW, numbers["side"], name="effective receptive field"))
    write_atomically(Path(target).with_suffix(".json"), (json.dumps(numbers, indent=2) + "\n").encode())
    return numbers
