"""Animations, pages and videos through `upscale_path`: every frame, and its time."""

import numpy as np
import pytest
import torch
from PIL import Image

from hriusr.pictures.source import open_source
from hriusr.upscaling.jobs import plan_jobs
from hriusr.upscaling.output_size import OutputSize
from hriusr.upscaling.picture_upscaler import TileOptions
from hriusr.upscaling.upscale import upscale_path
from tests.upscaling.nearest_network import Nearest


def frames(num_frames=3):
    """Flat pictures, so that palettes lose nothing."""
    return [np.full((40, 48, 3), 45 * number + 20, np.uint8) for number in range(num_frames)]


@pytest.mark.parametrize("suffix", [".gif", ".webp"])
def test_animation_keeps_frames_and_delays(tmp_path, suffix):
    images = [Image.fromarray(frame) for frame in frames()]
    more = {"lossless": True} if suffix == ".webp" else {}
    images[0].save(tmp_path / f"a{suffix}", save_all=True, append_images=images[1:], duration=[70, 110, 200], **more)
    report = upscale_path(tmp_path / f"a{suffix}", network=Nearest(), tiles=TileOptions(tile_size=16, tile_overlap=4))
    assert not report.failures
    assert report.outcomes[0].num_frames == 3
    with open_source(tmp_path / f"a_x2{suffix}") as result:
        assert (result.num_frames, result.height, result.width) == (3, 80, 96)
        assert result.metadata.fields["delay"] == [70, 110, 200]
        for number, frame in enumerate(frames()):
            pixels = result.read_rows(0, 80, number)[..., :3]
            assert abs(pixels.astype(int) - frame[0, 0]).max() <= 2


def test_pages_of_a_tiff_are_all_enlarged_to_the_wanted_size(tmp_path):
    images = [Image.fromarray(frame) for frame in frames(2)]
    images[0].save(tmp_path / "a.tif", save_all=True, append_images=images[1:])
    upscale_path(tmp_path / "a.tif", tmp_path / "b.tif", network=Nearest(), size=OutputSize(width=72))
    with open_source(tmp_path / "b.tif") as result:
        assert (result.num_frames, result.height, result.width) == (2, 60, 72)


def test_video_is_enlarged_frame_by_frame(tmp_path):
    av = pytest.importorskip("av")
    with av.open(str(tmp_path / "a.mkv"), "w") as container:
        stream = container.add_stream("ffv1", rate=25)
        stream.width, stream.height, stream.pix_fmt = 48, 40, "yuv444p"
        for frame in frames(5):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24").reformat(format="yuv444p")))
        container.mux(stream.encode())
    with torch.no_grad():
        report = upscale_path(tmp_path / "a.mkv", network=Nearest())
    assert [outcome.reason for outcome in report.outcomes] == [""]
    assert report.outcomes[0].size == (80, 96)
    with av.open(str(tmp_path / "a_x2.mkv")) as container:
        decoded = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    assert [frame.shape for frame in decoded] == [(80, 96, 3)] * 5
    for number, frame in enumerate(frames(5)):
        assert abs(decoded[number].astype(int) - frame[0, 0]).mean() < 3


def test_a_video_has_the_networks_scale_only(tmp_path):
    (tmp_path / "a.mp4").write_bytes(b"no video")
    report = upscale_path(tmp_path / "a.mp4", network=Nearest(), size=OutputSize(scale=3))
    assert "scale, width and height are for pictures" in report.failures[0].reason


def test_frames_that_are_left_out_are_noted_and_own_sizes_have_no_common_scale(tmp_path):
    images = [Image.fromarray(frame) for frame in frames()]
    images[0].save(tmp_path / "a.png", save_all=True, append_images=images[1:])
    report = upscale_path(tmp_path / "a.png", tmp_path / "b.png", network=Nearest(), size=OutputSize(width=120))
    assert report.outcomes[0].notes[0].startswith("only the first of 3 frames is taken")
    assert report.as_dict()["scale"] is None
    assert " x" not in report.summary().removeprefix(f"1 of 1 picture(s) written to {tmp_path}")


def test_limit_of_pixels_decides_on_the_name_of_an_animation_too(tmp_path):
    images = [Image.fromarray(frame) for frame in frames()]
    images[0].save(tmp_path / "a.gif", save_all=True, append_images=images[1:])
    endings = [
        plan_jobs(tmp_path / "a.gif", None, scale=2, max_pixels=limit).jobs[0].target.suffix for limit in (99, None)
    ]
    assert endings == [".png", ".gif"]
