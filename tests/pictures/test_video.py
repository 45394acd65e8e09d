"""Videos frame by frame: pixels, times, sound, subtitles, colours, bad files."""

from fractions import Fraction

import numpy as np
import pytest

av = pytest.importorskip("av")

from hriusr.errors import DataError, HriusrError  # noqa: E402 - after the skip
from hriusr.pictures.video import upscale_video  # noqa: E402


def doubled(pixels_HWC):
    return pixels_HWC.repeat(2, axis=0).repeat(2, axis=1)


def scene(number, height=48, width=64):
    """Return smooth colours that encoders hardly change."""
    y, x = np.mgrid[:height, :width]
    picture = np.stack([(3 * x + 20 * number) % 200 + 20, 4 * y + 20, 200 - 2 * x], axis=2)
    return picture.clip(16, 235).astype(np.uint8)


def make_video(
    path, *, times=range(8), codec="libx264", pix_fmt="yuv420p", size=(48, 64), with_sound=False, colour=None,
    aspect=None, rotation=0, subtitle=None,
):  # fmt: skip
    """Write a video of scenes at the given times in 1/10 s."""
    with av.open(str(path), "w") as container:
        options = {"crf": "1"} if codec.startswith("libx26") else {}
        stream = container.add_stream(codec, rate=10, options=options)
        stream.height, stream.width = size
        stream.pix_fmt = pix_fmt
        stream.codec_context.time_base = Fraction(1, 1000)
        if colour is not None:
            stream.codec_context.colorspace, stream.codec_context.color_range = colour
        if aspect:
            stream.codec_context.sample_aspect_ratio = aspect
        if rotation:
            stream.set_display_rotation(rotation)
        if with_sound:
            sound = container.add_stream("aac", rate=48000)
            sound.layout = "stereo"
        for number, time in enumerate(times):
            frame = av.VideoFrame.from_ndarray(scene(number, *size), "rgb24")
            settings = {} if colour is None else {"dst_colorspace": colour[0], "dst_color_range": colour[1]}
            frame = frame.reformat(format=pix_fmt, **settings)
            frame.pts, frame.time_base = time * 100, Fraction(1, 1000)
            frame.duration = 100
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
        if with_sound:
            tone = (np.sin(np.arange(48000 * len(times) // 10) * 0.05) * 8000).astype(np.int16)
            frame = av.AudioFrame.from_ndarray(np.stack([tone, tone]).T.reshape(1, -1), "s16", "stereo")
            frame.sample_rate, frame.pts, frame.time_base = 48000, 0, Fraction(1, 48000)
            container.mux(sound.encode(frame))
            container.mux(sound.encode(None))


def frames_of(path):
    with av.open(str(path)) as container:
        return [(float(frame.time), frame.to_ndarray(format="rgb24"), frame) for frame in container.decode(video=0)]


def packets_of(path, kind):
    with av.open(str(path)) as container:
        stream = getattr(container.streams, kind)[0]
        return [(float(p.pts * p.time_base), bytes(p)) for p in container.demux(stream) if p.pts is not None]


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".mov", ".webm"])
def test_frames_are_upscaled_and_keep_their_uneven_times(tmp_path, suffix):
    times = (0, 1, 2, 5, 6, 11, 12, 13)
    make_video(tmp_path / "a.mp4", times=times)
    done = []
    result = upscale_video(tmp_path / "a.mp4", tmp_path / f"b{suffix}", doubled, progress=done.append)
    frames = frames_of(tmp_path / f"b{suffix}")
    assert (result.num_frames, result.height, result.width) == (8, 96, 128)
    assert [time for time, _, _ in frames] == pytest.approx([time / 10 for time in times], abs=0.0015)
    for (_, pixels, _), (_, source, _) in zip(frames, frames_of(tmp_path / "a.mp4"), strict=True):
        assert np.abs(pixels.astype(int) - doubled(source)).mean() < 4
    assert done == sorted(done)
    assert done[-1] == pytest.approx(1, abs=0.01)


def test_sound_and_subtitles_are_copied_bit_for_bit(tmp_path):
    make_video(tmp_path / "a.mkv", with_sound=True)
    upscale_video(tmp_path / "a.mkv", tmp_path / "b.mkv", doubled)
    sound = packets_of(tmp_path / "a.mkv", "audio")
    assert len(sound) > 20
    assert packets_of(tmp_path / "b.mkv", "audio") == sound
    upscale_video(tmp_path / "a.mkv", tmp_path / "b.mp4", doubled)
    assert [content for _, content in packets_of(tmp_path / "b.mp4", "audio")] == [content for _, content in sound]
    starts = [packets_of(tmp_path / f"b.{kind}", "audio")[1][0] for kind in ("mkv", "mp4")]
    assert starts[0] == pytest.approx(starts[1], abs=0.03)


def add_subtitles(source, target):
    """Copy a video, and put two lines of text and a title beside it."""
    lines = [f"{n + 1}\n00:00:00,{300 * n:03} --> 00:00:00,{300 * n + 200:03}\nline {n}\n" for n in range(2)]
    text_path = target.with_suffix(".srt")
    text_path.write_text("\n".join(lines))
    with av.open(str(source)) as reader, av.open(str(text_path)) as texts, av.open(str(target), "w") as writer:
        copies = {}
        for origin in (reader.streams.video[0], texts.streams.subtitles[0]):
            copies[origin] = writer.add_stream_from_template(origin)
        copies[origin].metadata["language"] = "ger"
        writer.metadata["title"] = "A film"
        for origin, copy in copies.items():
            for packet in origin.container.demux(origin):
                if packet.size:  # Matroska stores no dts
                    packet.stream = copy
                    writer.mux(packet)


def test_subtitles_language_and_title_are_kept(tmp_path):
    make_video(tmp_path / "a.mkv")
    add_subtitles(tmp_path / "a.mkv", tmp_path / "text.mkv")
    upscale_video(tmp_path / "text.mkv", tmp_path / "b.mkv", doubled)
    assert packets_of(tmp_path / "b.mkv", "subtitles") == [(0.0, b"line 0"), (0.3, b"line 1")]
    with av.open(str(tmp_path / "b.mkv")) as container:
        assert container.streams.subtitles[0].language == "ger"
        assert container.metadata["title"] == "A film"


def test_format_that_cannot_hold_a_stream_is_refused_before_computing(tmp_path):
    make_video(tmp_path / "a.mkv")
    add_subtitles(tmp_path / "a.mkv", tmp_path / "text.mkv")

    def never(pixels_HWC):
        raise AssertionError("computed")

    with pytest.raises(DataError, match=r"\.mp4 cannot hold subtitle \(subrip\) of .*text.mkv: use .mkv"):
        upscale_video(tmp_path / "text.mkv", tmp_path / "b.mp4", never)
    assert not (tmp_path / "b.mp4").exists()


@pytest.mark.parametrize(
    ("colour", "expected"),
    [(None, (6, 1)), ((1, 1), (1, 1)), ((1, 2), (1, 2)), ((5, 1), (5, 1)), ((9, 1), (9, 1))],
    ids=str,
)
def test_colours_come_back_whatever_matrix_and_range(tmp_path, colour, expected):
    """Small frames that say nothing are BT.601; the result says so, and its pixels are those that were seen."""
    make_video(tmp_path / "a.mp4", colour=colour, times=range(2), size=(64, 64))
    seen = []

    def keep(pixels_HWC):
        seen.append(pixels_HWC)
        return doubled(pixels_HWC)

    upscale_video(tmp_path / "a.mp4", tmp_path / "b.mp4", keep, crf=1)
    assert np.abs(seen[0].astype(int) - scene(0, 64, 64)).mean() < 2
    with av.open(str(tmp_path / "b.mp4")) as container:
        context = container.streams.video[0].codec_context
        assert (context.colorspace, context.color_range) == expected
        frame = next(container.decode(video=0))
        pixels = frame.to_ndarray(format="rgb24", dst_color_range=2)
    assert np.abs(pixels.astype(int) - doubled(scene(0, 64, 64))).mean() < 2


@pytest.mark.parametrize("pix_fmt", ["yuv420p10le", "yuv444p10le"])
def test_ten_bits_stay_ten_bits(tmp_path, pix_fmt):
    make_video(tmp_path / "a.mkv", codec="ffv1", pix_fmt=pix_fmt, times=range(2))
    types = []

    def keep(pixels_HWC):
        types.append(pixels_HWC.dtype)
        return doubled(pixels_HWC)

    upscale_video(tmp_path / "a.mkv", tmp_path / "b.mp4", keep)
    assert set(types) == {np.dtype(np.uint16)}
    with av.open(str(tmp_path / "b.mp4")) as container:
        context = container.streams.video[0].codec_context
        assert (context.name, context.pix_fmt, context.codec_tag) == ("hevc", pix_fmt, "hvc1")
        assert [packet.dts == packet.pts for packet in container.demux(video=0) if packet.size] == [True, True]


def test_rotated_frames_are_upright_and_pixels_keep_their_aspect(tmp_path):
    make_video(tmp_path / "a.mp4", rotation=90, aspect=Fraction(4, 3), times=range(2))
    with av.open(str(tmp_path / "a.mp4")) as container:
        rotation = next(container.decode(video=0)).rotation
    assert abs(rotation) == 90
    result = upscale_video(tmp_path / "a.mp4", tmp_path / "b.mp4", doubled)
    assert (result.height, result.width) == (128, 96)
    expected = doubled(np.rot90(scene(0), rotation // 90))
    frame = frames_of(tmp_path / "b.mp4")[0]
    assert frame[2].rotation == 0
    assert np.abs(frame[1].astype(int) - expected).mean() < 4
    with av.open(str(tmp_path / "b.mp4")) as container:
        assert container.streams.video[0].sample_aspect_ratio == Fraction(3, 4)


def test_odd_sizes_keep_whole_colours(tmp_path):
    make_video(tmp_path / "a.mp4", times=range(2))
    result = upscale_video(tmp_path / "a.mp4", tmp_path / "b.mp4", lambda pixels_HWC: pixels_HWC[:45, :63])
    assert (result.height, result.width) == (45, 63)
    assert frames_of(tmp_path / "b.mp4")[0][2].format.name == "yuv444p"


def test_quality_has_effect(tmp_path, photo):
    make_video(tmp_path / "a.mp4", times=range(2))
    noise = photo("astronaut")[:96, :128]
    for crf in (5, 45):
        upscale_video(tmp_path / "a.mp4", tmp_path / f"{crf}.mp4", lambda _: noise, crf=crf)
    assert (tmp_path / "5.mp4").stat().st_size > 3 * (tmp_path / "45.mp4").stat().st_size


def cut(path, share):
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])


def sound_only(path):
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=48000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 4800), np.int16), "s16", "mono")
        frame.sample_rate = 48000
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


@pytest.mark.parametrize(
    ("name", "make", "message"),
    [
        ("missing.mp4", lambda path: None, "does not exist"),
        ("empty.mp4", lambda path: path.write_bytes(b""), r"is empty \(0 bytes\)"),
        ("text.mp4", lambda path: path.write_text("words " * 99), "is no video, or damaged"),
        ("folder.mp4", lambda path: path.mkdir(), "is a folder"),
        ("sound.m4a", sound_only, "holds no pictures, only sound"),
        ("headless.mp4", lambda path: (make_video(path), cut(path, 0.6)), "is no video, or damaged"),
        ("cut.mkv", lambda path: (make_video(path, times=range(60)), cut(path, 0.5)), "is cut off at|is damaged"),
    ],
)
def test_bad_videos_are_errors_of_one_line(tmp_path, capfd, name, make, message):
    make(tmp_path / name)
    (tmp_path / "b.mp4").write_bytes(b"old")
    with pytest.raises(DataError, match=message) as caught:
        upscale_video(tmp_path / name, tmp_path / "b.mp4", doubled)
    assert str(caught.value).startswith(str(tmp_path / name))
    assert "\n" not in str(caught.value)
    assert (tmp_path / "b.mp4").read_bytes() == b"old"
    assert not [path for path in tmp_path.iterdir() if path.name.endswith(".tmp")]
    assert capfd.readouterr().err == ""


def test_full_disk_is_an_error_of_one_line(tmp_path, file_size_limit, capfd):
    make_video(tmp_path / "a.mp4")
    with file_size_limit(1000), pytest.raises(HriusrError, match=r"cannot write .*b\.mp4.*File too large") as caught:
        upscale_video(tmp_path / "a.mp4", tmp_path / "b.mp4", doubled)
    assert "\n" not in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["a.mp4"]
    assert capfd.readouterr().err == ""


def test_error_of_the_network_goes_through_and_leaves_nothing(tmp_path):
    make_video(tmp_path / "a.mp4")

    def fail(pixels_HWC):
        raise RuntimeError("no")

    with pytest.raises(RuntimeError, match="no"):
        upscale_video(tmp_path / "a.mp4", tmp_path / "b.mp4", fail)
    assert [path.name for path in tmp_path.iterdir()] == ["a.mp4"]


def test_unknown_format_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"\.avi is not a video format that we write: use one of \.mp4, "):
        upscale_video(tmp_path / "a.mp4", tmp_path / "b.avi", doubled)


def test_an_end_that_may_be_missing_is_told(tmp_path):
    make_video(tmp_path / "a.mkv", times=range(200))
    assert upscale_video(tmp_path / "a.mkv", tmp_path / "b.mkv", lambda pixels: pixels).notes == ()
    cut(tmp_path / "a.mkv", 0.96)
    result = upscale_video(tmp_path / "a.mkv", tmp_path / "b.mkv", lambda pixels: pixels)
    assert 185 <= result.num_frames < 200
    assert result.notes == (f"its pictures end at {result.num_frames / 10:.1f} of 20.0 s: it may be cut off",)


def test_what_a_killed_process_left_is_removed(tmp_path):
    make_video(tmp_path / "a.mp4")
    for name in (".b.mp4.99999999.tmp", ".c.mp4.99999999.tmp"):
        (tmp_path / name).write_bytes(b"gigabytes")
    upscale_video(tmp_path / "a.mp4", tmp_path / "b.mp4", doubled)
    assert sorted(path.name for path in tmp_path.iterdir()) == [".c.mp4.99999999.tmp", "a.mp4", "b.mp4"]
