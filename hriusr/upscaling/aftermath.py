"""What a run that ended early has written all the same: seen on the disk, since the process that knew is gone."""

from pathlib import Path

from hriusr.errors import HriusrError
from hriusr.pictures.source import open_source
from hriusr.upscaling.jobs import Job
from hriusr.upscaling.outcome import Outcome

Stamp = tuple[int, int] | None


def stamp_of(target: Path) -> Stamp:
    """Return what tells a file from the one that replaces it; None where there is none."""
    try:
        status = target.stat()
    except OSError:
        return None
    return status.st_ino, status.st_mtime_ns


def written_since(job: Job, before: Stamp) -> Outcome | None:
    """Return the outcome of a job whose result is another than before; results appear whole or not at all."""
    if stamp_of(job.target) in (None, before):
        return None
    size, num_frames = (0, 0), 1
    if not job.is_video:
        try:
            with open_source(job.target, max_pixels=None) as picture:
                size, num_frames = (picture.height, picture.width), picture.num_frames
        except HriusrError:  # a program may have taken it already
            pass
    return Outcome(job.name, job.target, "written", size=size, num_frames=num_frames)
