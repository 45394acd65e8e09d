"""Images as Python programs hold them, NumPy arrays, PIL images and tensors: to pixels 0..1 and back to their own form.

| form | taken | layout |
|---|---|---|
| numpy.ndarray | uint8, uint16, float16, float32, float64 | (H, W) or (H, W, C) |
| torch.Tensor | uint8, uint16, float16, bfloat16, float32, float64 | (C, H, W) or (B, C, H, W) |
| PIL.Image | modes 1, L, LA, P, RGB, RGBA, I;16, I (16 bits in it) | |

C is 1 grey, 2 grey and alpha, 3 RGB, 4 RGB and alpha. Floats are 0..1 nominal and are not clamped. Arrays may have
either order of bytes. PIL images of modes 1, L and RGB in which a colour is transparent come back with
alpha (LA, RGBA).
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from hriusr.errors import DataError

Restore = Callable[[Tensor], Any]
_FULL = {torch.uint8: 255, torch.uint16: 65535}
_FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
_MODES = {
    "1": "L",
    "L": "L",
    "LA": "LA",
    "P": "RGB",
    "RGB": "RGB",
    "RGBA": "RGBA",
    "I;16": "I;16",
    "I": "I",
}
_SIXTEEN_BITS = ("I;16", "I")


def to_pixels(image: Any) -> tuple[Tensor, Restore]:
    """Return pixels (B, C, H, W) float32 0..1 on the CPU, and a function that gives such pixels the image's form.

    Raises:
        DataError: a type, dtype, mode or shape that is not taken.
    """
    if isinstance(image, Image.Image):
        return _from_pil(image)
    if isinstance(image, np.ndarray):
        return _from_numpy(image)
    if isinstance(image, Tensor):
        return _from_tensor(image)
    raise DataError(f"image (a {type(image).__name__}) must be a NumPy array, a PIL image or a torch tensor")


def _from_numpy(image: np.ndarray) -> tuple[Tensor, Restore]:
    if image.ndim not in (2, 3):
        raise DataError(f"image (an array of shape {image.shape}) must be (H, W) or (H, W, channels)")
    dtype = image.dtype
    image = np.ascontiguousarray(image, dtype.newbyteorder("="))
    try:
        tensor = torch.from_numpy(image if image.flags.writeable else image.copy())  # torch warns of what is read-only
    except TypeError:
        raise DataError(_wrong_dtype(dtype)) from None
    is_flat = tensor.ndim == 2
    pixels = _scaled((tensor[..., None] if is_flat else tensor).permute(2, 0, 1)[None])

    def restore(pixels_BCHW: Tensor) -> np.ndarray:
        array = _unscaled(pixels_BCHW, tensor.dtype)[0].permute(1, 2, 0).contiguous().numpy().astype(dtype, copy=False)
        return array[..., 0] if is_flat else array

    return pixels, restore


def _from_tensor(image: Tensor) -> tuple[Tensor, Restore]:
    if image.ndim not in (3, 4):
        raise DataError(f"image (a tensor of shape {tuple(image.shape)}) must be (C, H, W) or (B, C, H, W)")
    is_single, dtype, device = image.ndim == 3, image.dtype, image.device
    pixels = _scaled((image[None] if is_single else image).detach().cpu())

    def restore(pixels_BCHW: Tensor) -> Tensor:
        tensor = _unscaled(pixels_BCHW, dtype).to(device)
        return tensor[0] if is_single else tensor

    return pixels, restore


def _from_pil(image: Image.Image) -> tuple[Tensor, Restore]:
    if image.mode not in _MODES:
        raise DataError(f"image (of PIL mode {image.mode}) must be of one of {', '.join(_MODES)}: use image.convert")
    mode = _MODES[image.mode]
    has_clear_colour = "transparency" in image.info
    if has_clear_colour:
        mode = {"L": "LA", "RGB": "RGBA"}.get(mode, mode)
    array = np.array(image if image.mode == mode else image.convert(mode))
    if mode in _SIXTEEN_BITS:
        if array.min(initial=0) < 0 or array.max(initial=0) > 65535:
            raise DataError(f"image (of PIL mode {image.mode}) has values outside 0..65535: scale them first")
        array = array.astype(np.uint16)
    pixels, restore_array = _from_numpy(array)

    def restore(pixels_BCHW: Tensor) -> Image.Image:
        enlarged = restore_array(pixels_BCHW)
        if image.mode == "I":
            result = Image.fromarray(enlarged.astype(np.int32))
        else:
            result = Image.fromarray(enlarged)
        if image.mode == "P":
            result = result.quantize(256)
        elif image.mode == "1" and not has_clear_colour:
            result = result.convert("1", dither=Image.Dither.NONE)
        kept = {key: value for key, value in image.info.items() if key != "transparency"}
        result.info = {**kept, **result.info}
        return result

    return pixels, restore


def _scaled(image_BCHW: Tensor) -> Tensor:
    if image_BCHW.dtype not in (*_FULL, *_FLOATS):
        raise DataError(_wrong_dtype(image_BCHW.dtype))
    if not 1 <= image_BCHW.shape[1] <= 4:
        raise DataError(
            f"image (with {image_BCHW.shape[1]} channels) must have 1 (grey), 2 (grey, alpha), 3 (RGB) or 4 (RGBA); "
            "arrays are (H, W, C), tensors (C, H, W)"
        )
    if 0 in image_BCHW.shape:
        raise DataError(f"image (of {image_BCHW.shape[2]} x {image_BCHW.shape[3]} pixels) is empty")
    if image_BCHW.dtype in _FULL:
        return image_BCHW.to(torch.int32).float() / _FULL[image_BCHW.dtype]
    pixels = image_BCHW.float()
    if not pixels.isfinite().all():
        raise DataError("image has NaN or infinite values: replace them first")
    return pixels


def _unscaled(pixels_BCHW: Tensor, dtype: torch.dtype) -> Tensor:
    if dtype in _FULL:
        return (pixels_BCHW.clamp(0, 1) * _FULL[dtype]).round().to(torch.int32).to(dtype)
    return pixels_BCHW.to(dtype)


def _wrong_dtype(dtype: Any) -> str:
    return f"image (of {dtype}) must be uint8, uint16, or floats of 0..1"
