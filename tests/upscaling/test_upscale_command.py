"""`hriusr upscale` before and beside the network: limits, mistakes, what has no effect."""

import numpy as np
import pytest
from PIL import Image, ImageFile
from torch import nn
from torch.nn import functional as F

from hriusr.pictures import fallback
from hriusr.upscaling.upscale import upscale_path


class Nearest(nn.Module):
    """Repeat each pixel."""

    upscale, in_chans = 2, 3

    def forward(self, x):
        return F.interpolate(x, scale_factor=self.upscale)


@pytest.fixture
def folder(tmp_path):
    for name in ("a.png", "b.tga"):
        Image.fromarray(np.zeros((20, 30 if name == "b.tga" else 10, 3), np.uint8)).save(tmp_path / name)
    return tmp_path


def test_picture_beyond_max_pixels_is_never_decoded(folder, monkeypatch):
    monkeypatch.setattr(ImageFile.ImageFile, "load", lambda self: pytest.fail("decoded"))
    report = upscale_path(folder, folder / "out", network=Nearest(), max_pixels=599)
    assert [outcome.status for outcome in report.outcomes] == ["written", "failed"]
    assert "more than max_pixels (=599)" in report.outcomes[1].reason


def test_memory_that_does_not_suffice_ends_one_picture_only(folder, monkeypatch):
    def no_memory(path):
        raise MemoryError

    monkeypatch.setattr(fallback, "_opened", no_memory)
    report = upscale_path(folder, folder / "out", network=Nearest())
    assert [outcome.status for outcome in report.outcomes] == ["written", "failed"]
    assert report.outcomes[1].reason.startswith("MemoryError")
