"""What metrics look at: the border cut off, all colours or Y alone, float64."""

import numpy as np

# BT.601 for B, G, R in 0..1, as MATLAB's rgb2ycbcr; Y is 16..235 and not rounded
_Y_OF_BGR = np.array([24.966, 128.553, 65.481])


def crop_and_convert(
    image: np.ndarray, reference: np.ndarray, crop_border: int, input_order: str, test_y_channel: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Prepare two pictures for comparison as BasicSR does.

    Args:
        image: BGR or one channel, range 0..255.
        reference: of the same shape.
        crop_border: pixels cut off each side.
        input_order: "HWC" or "CHW"; (H, W) is taken too.
        test_y_channel: keep Y of YCbCr alone.

    Returns:
        Both as (H, W, C) float64.

    Raises:
        ValueError: shapes differ, an unknown order, or nothing is left.
    """
    if image.shape != reference.shape:
        raise ValueError(f"the pictures differ in shape: {image.shape} and {reference.shape}")
    if input_order not in ("HWC", "CHW"):
        raise ValueError(f"input_order (={input_order!r}) must be 'HWC' or 'CHW'")
    return tuple(_prepare(each, crop_border, input_order, test_y_channel) for each in (image, reference))


def _prepare(image: np.ndarray, crop_border: int, input_order: str, test_y_channel: bool) -> np.ndarray:
    if image.ndim == 2:
        image = image[..., None]
    elif input_order == "CHW":
        image = image.transpose(1, 2, 0)
    height, width = image.shape[:2]
    if min(height, width) <= 2 * crop_border:
        raise ValueError(f"crop_border (={crop_border}) leaves nothing of a picture of {width}x{height}")
    image = image[crop_border : height - crop_border, crop_border : width - crop_border]
    if test_y_channel and image.shape[2] == 3:
        # float32 in between, as BasicSR: the fifth digit of published numbers depends on it
        y_HW = np.dot(image.astype(np.float32) / 255.0, _Y_OF_BGR) + 16.0
        return np.ascontiguousarray((y_HW / 255.0).astype(np.float32)[..., None] * 255.0, dtype=np.float64)
    return np.ascontiguousarray(image, dtype=np.float64)
