"""A picture of another size: Lanczos 3 to shrink, bicubic to enlarge, colours weighted by opacity."""

from typing import Any

import numpy as np

from hriusr.pictures.vips import load_vips

_SHARP, _SOFT = ("lanczos3", "bicubic"), ("linear", "bilinear")  # to shrink, to enlarge


def resample(image: Any, num_frames: int, height: int, width: int, dtype: np.dtype) -> Any:
    """Resample each frame by itself, reading it once from top to bottom.

    Args:
        image: pyvips.Image of 1 to 4 channels, frames one above the other; 2 and 4 have alpha, not multiplied.
        num_frames: how many.
        height, width: of a frame of the result.
        dtype: of the pixels; whole numbers are rounded and stay in range.
    """
    old_height = image.height // num_frames
    frames = []
    for number in range(num_frames):
        frame = image.crop(0, number * old_height, image.width, old_height) if num_frames > 1 else image
        if image.bands in (2, 4):
            frame = _resample_with_alpha(frame, height, width, dtype)
        else:
            frame = _resample(frame.cast("float"), height, width, _SHARP)
        frames.append(frame.rint().cast(image.format) if dtype.kind == "u" else frame.cast("float"))
    joined = frames[0] if num_frames == 1 else type(image).arrayjoin(frames, across=1)
    return joined.copy(interpretation=image.interpretation)


def _resample_with_alpha(frame: Any, height: int, width: int, dtype: np.dtype) -> Any:
    """Resample colours so that neither hidden ones nor ringing show at edges.

    Colours multiplied by alpha, resampled and divided again are right where alpha is large. Where it is small, a sharp
    kernel's negative weights divide noise by nearly nothing: black and white specks around every edge. A kernel without
    such weights stays between the visible colours around, so it takes over there. Floats have no bounds
    that colours could be held within.
    """
    is_whole = dtype.kind == "u"
    greatest = np.iinfo(dtype).max if is_whole else 1.0
    weighted = frame.premultiply(max_alpha=greatest).cast("float")
    sharp, soft = (_resample(weighted, height, width, kernels) for kernels in (_SHARP, _SOFT))
    sharp_alpha, soft_alpha = sharp[frame.bands - 1], soft[frame.bands - 1]
    trust = _clamp(soft_alpha * (2 / greatest) - 1, 1)  # in the sharp colours: from half to full opacity
    colours = [
        multiplied[: frame.bands - 1] * greatest / (alpha > 0).ifthenelse(alpha, 1)
        for multiplied, alpha in ((sharp, sharp_alpha), (soft, soft_alpha))
    ]
    if is_whole:
        colours = [_clamp(colour, greatest) for colour in colours]
    alpha = (soft_alpha > 0).ifthenelse(_clamp(sharp_alpha, greatest), 0)
    return (colours[0] * trust + colours[1] * (1 - trust)).bandjoin(alpha)


def _clamp(image: Any, greatest: float) -> Any:
    return (image < 0).ifthenelse(0, (image > greatest).ifthenelse(greatest, image))


def _resample(image: Any, height: int, width: int, kernels: tuple[str, str]) -> Any:
    """Shrink by one kernel, then enlarge by another, with pixel centres as all others have them.

    libvips' own enlarging (resize) lies up to half a pixel beside.
    """
    shrink_x, shrink_y = min(1.0, width / image.width), min(1.0, height / image.height)
    if min(shrink_x, shrink_y) < 1:
        image = image.resize(shrink_x, vscale=shrink_y, kernel=kernels[0])
    if (image.height, image.width) == (height, width):
        return image
    return image.affine(
        [width / image.width, 0, 0, height / image.height],
        interpolate=load_vips().Interpolate.new(kernels[1]),
        idx=0.5,
        idy=0.5,
        odx=-0.5,
        ody=-0.5,
        oarea=[0, 0, width, height],
        extend="copy",
        premultiplied=True,  # else libvips would multiply by alpha once more
    )
