"""Noise or JPEG on the lq of a paired set: for restoration, and for enlarging compressed pictures.

The tasks of SwinIR (arXiv:2108.10257, sec. 4.4 and 4.5) and Swin2SR (arXiv:2209.11345). A training patch is, to the
bit, the cut-out of the picture that was compressed as a whole, though only its surroundings are compressed; its noise
follows from (seed, position). Whole pictures get the noise of SwinIR's test script: seed 0, the same for each picture.

Letters: H W C height, width, channels.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from hriusr.data.degradations.draws import degradation_generator
from hriusr.data.image_io import encode_image, read_image_bytes
from hriusr.data.sampler import SampleKey
from hriusr.data.transforms import Window
from hriusr.errors import DataError

_UNIT = 16  # pixels: what JPEG treats at once, with chroma of half the size


@dataclass(frozen=True)
class LqDegradation:
    """What happens to lq after it was made or read; nothing, where both are None.

    Attributes:
        noise_sigma: standard deviation of Gaussian noise, of 255; added as a float, neither rounded nor clipped.
        jpeg_quality: 1..100.
    """

    noise_sigma: float | None
    jpeg_quality: int | None

    @classmethod
    def from_options(cls, opt: Mapping[str, Any]) -> "LqDegradation":
        """Read lq_noise and lq_jpeg_quality from a dataset's options.

        Raises:
            DataError: both are given, or one is out of range.
        """
        sigma, quality = opt.get("lq_noise"), opt.get("lq_jpeg_quality")
        name = opt.get("name") or opt.get("dataroot_gt")
        if sigma is not None and quality is not None:
            raise DataError(f"dataset {name} has lq_noise (={sigma}) and lq_jpeg_quality (={quality}): keep one")
        if sigma is not None and not 0 < sigma < float("inf"):
            raise DataError(f"lq_noise (={sigma}) of dataset {name} must be above 0: 15, 25 and 50 are usual")
        if quality is not None and not (quality == int(quality) and 1 <= quality <= 100):
            raise DataError(f"lq_jpeg_quality (={quality}) of dataset {name} must be a whole number from 1 to 100")
        return cls(sigma, None if quality is None else int(quality))

    def compress(self, lq_of: Callable[[Window], np.ndarray], window: Window, lq_size: tuple[int, int]) -> np.ndarray:
        """Cut a window out of a picture that is compressed as a whole; there must be a jpeg_quality.

        Args:
            lq_of: returns a window of the picture: RGB (H, W, 3) or one channel (H, W, 1), uint8 or uint16.
            window: in the picture.
            lq_size: (H, W) of the picture.

        Returns:
            The window, uint8, of the same channels.
        """
        outer = _surroundings(window, lq_size)
        source_HWC = lq_of(outer)
        if source_HWC.dtype == np.uint16:
            source_HWC = np.round(source_HWC / 257).astype(np.uint8)
        content = encode_image(source_HWC, ".jpg", jpeg_quality=self.jpeg_quality)
        decoded_HWC = read_image_bytes(content, "a compressed lq")[..., : source_HWC.shape[2]]
        return decoded_HWC[window.rows(outer.top), window.columns(outer.left)]

    def noise(self, shape: tuple[int, int, int], key: SampleKey | None) -> np.ndarray | None:
        """Draw the noise of a picture.

        Args:
            shape: (H, W, C) of lq as the network sees it.
            key: of a training sample; None: a whole picture that is tested.

        Returns:
            Float32 noise for a picture of 0..1; None where there is no noise.
        """
        if self.noise_sigma is None:
            return None
        if key is not None:
            noise_HWC = degradation_generator(key.seed, key.position).normal(size=shape)
        else:  # SwinIR's script draws for BGR
            noise_HWC = np.random.RandomState(0).normal(size=shape)[..., ::-1]
        return (noise_HWC * (self.noise_sigma / 255)).astype(np.float32)


def _surroundings(window: Window, size: tuple[int, int]) -> Window:
    """Widen a window to whole JPEG units and one more on each side: chroma is enlarged by a filter that looks there."""
    (top, below), (left, right) = (
        (max(0, (start // _UNIT - 1) * _UNIT), min(side, (-(-(start + count) // _UNIT) + 1) * _UNIT))
        for start, count, side in zip(window[:2], window[2:], size, strict=True)
    )
    return Window(top, left, below - top, right - left)
