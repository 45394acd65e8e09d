"""Pictures of local attribution maps and receptive fields: panels side by side, each with a line of text above.

The map is shown as white (nothing) over red to dark red (the most), by its square root: a few pixels have nearly all,
and the many that share the rest would not be seen.
"""

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from hriusr.analysis.attribution import Box, LocalAttribution, Window
from hriusr.data.matlab_resize import imresize

_PANEL = 320  # pixels a side, about
_GAP, _CAPTION = 12, 22
_INK, _RED, _BLUE = (40, 40, 40), (230, 20, 20), (20, 90, 230)
_STOPS = np.array([[255, 255, 255], [255, 0, 0], [110, 0, 0]], np.float64)
_SR_CONTEXT = 4  # how many times as wide as its window the patch of the result is shown

Rectangle = tuple[float, float, float, float]  # left, top, width, height


def heat(map_HW: np.ndarray) -> np.ndarray:
    """Colour a map 0..1: white, red, dark red; (H, W, 3) uint8."""
    shown_HW = np.sqrt(map_HW)
    channels = [np.interp(shown_HW, [0, 0.6, 1], _STOPS[:, channel]) for channel in range(3)]
    return np.stack(channels, axis=2).round().astype(np.uint8)


def blend(image_HWC: np.ndarray, map_HW: np.ndarray) -> np.ndarray:
    """Lay a map over a picture in paler grey, the more opaque the higher.

    Args:
        image_HWC: (H, W, 1 or 3), 0..1.
        map_HW: 0..1.

    Returns:
        (H, W, 3) uint8.
    """
    grey_HW1 = 255 * (0.25 + 0.75 * image_HWC.mean(axis=2, keepdims=True))
    opacity_HW1 = np.minimum(1.5 * np.sqrt(map_HW), 1)[..., None]
    return (grey_HW1 * (1 - opacity_HW1) + heat(map_HW) * opacity_HW1).round().astype(np.uint8)


def attribution_picture(
    found: LocalAttribution, image_HWC: np.ndarray, window: Window, *, scale: int, diffusion_index: float
) -> np.ndarray:
    """Draw what people expect of a LAM: picture with the window, map, both over each other, patch of the result.

    Args:
        found: the attribution.
        image_HWC: the whole low-resolution picture, 0..1.
        window: of the result for the whole picture.
        scale: enlargement.
        diffusion_index: for the caption.

    Returns:
        (H, W, 3) uint8. Where the network was shown a part of the picture, a panel with the whole comes first.
    """
    box, map_HW = found.box, found.map
    height, width = image_HWC.shape[:2]
    left, top, size = (side / scale for side in window)
    mark = (left - box.left, top - box.top, size, size)
    shown_HWC = box.cut(image_HWC)
    panels = []
    if (box.height, box.width) != (height, width):
        place = (box.left, box.top, box.width, box.height)
        marks = [(place, _BLUE), ((left, top, size, size), _RED)]
        panels.append(_panel(_as_bytes(image_HWC), f"picture {width}x{height}", marks))
    panels += [
        _panel(_as_bytes(shown_HWC), f"LR {box.width}x{box.height}, window of {window.size}", [(mark, _RED)]),
        _panel(heat(map_HW), f"attribution, DI {diffusion_index:.2f}", [(mark, _BLUE)]),
        _panel(blend(shown_HWC, map_HW), "blend", [(mark, _BLUE)]),
        _result_panel(found, window, scale),
    ]
    return _side_by_side(panels)


def field_picture(field_HW: np.ndarray, sides: dict[str, int | None], *, name: str) -> np.ndarray:
    """Draw an effective receptive field, with the squares that hold parts of it.

    Args:
        field_HW: non-negative, not all 0.
        sides: by percent, side of a centred square; None is left out.
        name: for the caption.

    Returns:
        (H, W, 3) uint8; square root of linear left, logarithm over six decades right.
    """
    height, width = field_HW.shape
    map_HW = field_HW / field_HW.max()
    logarithm_HW = np.clip(1 + np.log10(np.maximum(map_HW, 1e-12)) / 6, 0, 1)
    marks = [
        ((width // 2 - side // 2, height // 2 - side // 2, side, side), _BLUE)
        for side in sides.values()
        if side is not None
    ]
    text = ", ".join(f"{percent} %: {side or f'> {min(height, width)}'}" for percent, side in sides.items())
    return _side_by_side(
        [
            _panel(heat(map_HW), f"{name} {width}x{height}, square root", []),
            _panel(heat(logarithm_HW**2), "log, 6 decades", []),
            _panel(heat(map_HW), f"side of squares that hold {text}", marks),
        ]
    )


def _result_panel(found: LocalAttribution, window: Window, scale: int) -> Image.Image:
    """Show the window of the result with what is around it."""
    left, top = window.left - found.box.left * scale, window.top - found.box.top * scale
    height, width = found.sr_HWC.shape[:2]
    side = min(_SR_CONTEXT * window.size, height, width)
    first_row, first_column = (
        min(max(first + window.size // 2 - side // 2, 0), length - side)
        for first, length in ((top, height), (left, width))
    )
    patch_HWC = Box(first_row, first_column, side, side).cut(found.sr_HWC)
    mark = (left - first_column, top - first_row, window.size, window.size)
    return _panel(_as_bytes(patch_HWC), f"SR x{scale}", [(mark, _RED)])


def _as_bytes(image_HWC: np.ndarray) -> np.ndarray:
    bytes_HWC = (image_HWC.clip(0, 1) * 255).round().astype(np.uint8)
    return np.repeat(bytes_HWC, 3, axis=2) if bytes_HWC.shape[2] == 1 else bytes_HWC


def _panel(image_HWC: np.ndarray, caption: str, marks: Sequence[tuple[Rectangle, tuple[int, int, int]]]) -> Image.Image:
    """Enlarge a picture by a whole number, pixels kept as squares (or shrink it), frame places and write above it."""
    longest = max(image_HWC.shape[:2])
    factor = max(1, round(_PANEL / longest)) if longest <= 1.25 * _PANEL else _PANEL / longest
    if factor >= 1:
        image = Image.fromarray(image_HWC.repeat(factor, axis=0).repeat(factor, axis=1))
    else:
        image = Image.fromarray(imresize(image_HWC, factor))
    draw = ImageDraw.Draw(image)
    for (left, top, width, height), colour in marks:
        corners = [left * factor - 1, top * factor - 1, (left + width) * factor, (top + height) * factor]
        draw.rectangle(corners, outline=colour, width=2 if min(width, height) * factor > 8 else 1)
    font = ImageFont.load_default(size=14)
    text_width = round(ImageDraw.Draw(image).textlength(caption, font=font))
    panel = Image.new("RGB", (max(image.width, text_width), image.height + _CAPTION), "white")
    panel.paste(image, (0, _CAPTION))
    draw = ImageDraw.Draw(panel)
    draw.rectangle([0, _CAPTION, image.width - 1, panel.height - 1], outline=(190, 190, 190))
    draw.text((0, 2), caption, fill=_INK, font=font)
    return panel


def _side_by_side(panels: Sequence[Image.Image]) -> np.ndarray:
    width = sum(panel.width for panel in panels) + _GAP * (len(panels) + 1)
    sheet = Image.new("RGB", (width, max(panel.height for panel in panels) + 2 * _GAP), "white")
    left = _GAP
    for panel in panels:
        sheet.paste(panel, (left, _GAP))
        left += panel.width + _GAP
    return np.array(sheet)
