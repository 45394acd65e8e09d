"""One picture or video of a run, from its file to its result; whatever goes wrong with it becomes an outcome."""

import copy
import logging
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hriusr.atomic_file import check_writable
from hriusr.errors import DataError, FolderBusyError, HriusrError, ToldByAnotherError
from hriusr.pictures.encoder import encode_picture
from hriusr.pictures.formats import check_target, format_of
from hriusr.pictures.source import MAX_PIXELS, PictureSource, open_source
from hriusr.pictures.video import upscale_video
from hriusr.upscaling.canvas import Canvas, holds_finished_rows, scratch_folder
from hriusr.upscaling.jobs import Job
from hriusr.upscaling.memory_plan import PROBE_SIDE
from hriusr.upscaling.outcome import Outcome
from hriusr.upscaling.output_size import OutputSize
from hriusr.upscaling.picture_rows import OpaquePicture, is_opaque
from hriusr.upscaling.picture_upscaler import FractionDone, PictureUpscaler
from hriusr.upscaling.sharing import ALONE, TileSharing
from hriusr.upscaling.tile_runner import is_out_of_memory

logger = logging.getLogger(__name__)

_DESCRIPTIONS = {"icc-profile-data": "colour profile", "exif-data": "EXIF"}  # names are libvips'


@dataclass
class JobRunner:
    """Does jobs one after the other.

    Attributes:
        upscaler: the network.
        size: of results.
        overwrite: replace results that exist, instead of skipping their pictures.
        jpeg_quality: 0..100.
        max_pixels: of a source; None: no limit.
        checks_seams: compare the result at seams with one of larger tiles.
    """

    upscaler: PictureUpscaler
    size: OutputSize = field(default_factory=OutputSize)
    overwrite: bool = False
    jpeg_quality: int = 95
    max_pixels: int | None = MAX_PIXELS
    checks_seams: bool = False

    @property
    def sharing(self) -> TileSharing:
        """The processes that do a job together."""
        return self.upscaler.sharing

    def alone(self) -> "JobRunner":
        """Return the same for jobs that this process does by itself."""
        runner = copy.copy(self)
        runner.upscaler = copy.copy(self.upscaler)
        runner.upscaler.sharing = ALONE
        return runner

    def run(self, job: Job, progress: FractionDone | None = None) -> Outcome:
        """Upscale one picture or video; with several processes, called by all of them."""
        started = time.perf_counter()
        try:
            reason = self.sharing.from_first(lambda: self._why_not(job))
            if reason:
                return Outcome(job.name, job.target, "skipped", reason)
            found = self._run_video(job, progress) if job.is_video else self._run_picture(job, progress)
        except ToldByAnotherError as error:
            return Outcome(job.name, job.target, "failed", str(error))
        except Exception as error:  # one picture's trouble must not end the batch
            logger.debug("%s failed", job.source, exc_info=True)
            notes = () if isinstance(error, FolderBusyError) else unfinished_notes(job)  # those rows are another's
            return Outcome(job.name, job.target, "failed", _why(error), notes=notes)
        return Outcome(job.name, job.target, "written", seconds=time.perf_counter() - started, **found)

    def _why_not(self, job: Job) -> str:
        """Say why a job is left out, or raise where it cannot be done; before anything is computed."""
        if job.replaces_input:
            raise DataError(f"its result would replace the input {job.target}: choose another output or suffix")
        try:
            if job.target.exists() and not self.overwrite:
                return f"{job.target} exists: give --overwrite (overwrite=True), or remove it"
        except OSError as error:
            raise DataError(f"cannot write {job.target} ({error.strerror}): choose another output") from None
        check_writable(job.target)
        return ""

    def _run_video(self, job: Job, progress: FractionDone | None) -> dict[str, Any]:
        if self.size != OutputSize():
            raise DataError(f"{job.source}: scale, width and height are for pictures; a video gets the network's scale")
        if self.sharing.rank != 0:
            return {}
        result = upscale_video(job.source, job.target, self.upscaler.upscale_array, progress=progress)
        return {"size": (result.height, result.width), "num_frames": result.num_frames, "notes": result.notes}

    def _run_picture(self, job: Job, progress: FractionDone | None) -> dict[str, Any]:
        with ExitStack() as stack:
            source = stack.enter_context(self.sharing.together(lambda: self._open(job)))
            size = self.size.of(source.height, source.width, self.upscaler.scale)
            scale = self.upscaler.scale
            shape = (source.num_frames, source.height * scale, source.width * scale, source.num_channels)
            canvas = Canvas(job.target, shape, source.dtype, self._identity(job.source))
            self.sharing.from_first(lambda: stack.enter_context(canvas) and None)
            if self.sharing.rank != 0:
                self.upscaler.upscale(source, None)
                return {}
            is_continued = canvas.position().frame + canvas.position().row > 0
            self.upscaler.upscale(source, canvas, progress)
            seams = self.upscaler.check_seams(source, canvas) if self.checks_seams else None
            encode_picture(
                canvas.pixels_path,
                shape,
                source.dtype,
                source.metadata,
                job.target,
                size=size,
                jpeg_quality=self.jpeg_quality,
            )
            canvas.finish()
            notes = self._notes(source, job.target, size, is_continued, seams)
        return {
            "size": size,
            "num_frames": source.num_frames,
            "notes": notes,
            "seams": None if seams is None else seams.as_dict(),
        }

    def _open(self, job: Job) -> "PictureSource | OpaquePicture":
        """Open a picture and see whether its result can be written; an alpha that hides nothing is no obstacle."""
        source = open_source(job.source, max_pixels=self.max_pixels, scratch_folder=job.target.parent)
        try:
            height, width = self.size.of(source.height, source.width, self.upscaler.scale)
            if source.has_alpha and not format_of(job.target).has_alpha and is_opaque(source):
                source = OpaquePicture(source)
            check_target(job.target, height, width, source.dtype, source.has_alpha, source.num_frames)
            source.decode()
        except BaseException:
            source.close()
            raise
        return source

    def _identity(self, source: Path) -> dict[str, Any]:
        """Say what makes a scratch folder that of this picture and these settings."""
        status = source.stat()
        return {
            "source": str(source.resolve()),
            "bytes": status.st_size,
            "modified": status.st_mtime_ns,
        } | self.upscaler.identity()

    def _notes(
        self, source: PictureSource, target: Path, size: tuple[int, int], is_continued: bool, seams: Any
    ) -> tuple[str, ...]:
        scale, precision = self.upscaler.scale, self.upscaler.options.precision
        notes = [*source.notes]
        if is_continued:
            notes.append("continued where an earlier run was cut off")
        if size[0] > source.height * scale or size[1] > source.width * scale:
            notes.append(f"the network enlarges x{scale}; what goes beyond is bicubic, without detail of its own")
        left_out = [what for name, what in _DESCRIPTIONS.items() if name in source.metadata.fields]
        if left_out and not format_of(target).has_metadata:
            notes.append(f"{target.suffix.lower()} holds no {' and no '.join(left_out)}: left out")
        if source.dtype.itemsize > 1 and precision != "fp32":
            notes.append(f"{precision} keeps 8 to 11 bits of a picture with more: use precision fp32")
        if self.upscaler.has_unheld_pools and source.height * source.width > PROBE_SIDE**2:
            notes.append("each tile takes its own means in the network's global pools, so tiles may differ in tone")
        if seams is not None:
            notes.append(str(seams))
        elif self.checks_seams:
            notes.append("seams: none, the picture is one tile")
        return tuple(notes)


def _why(error: Exception) -> str:
    text = str(error).strip().split("\n", maxsplit=1)[0]
    if isinstance(error, HriusrError):
        return text
    if is_out_of_memory(error):
        return "memory ran out: choose a smaller tile_size, or end other programs"
    return f"{type(error).__name__}: {text}"


def unfinished_notes(job: Job) -> tuple[str, ...]:
    """Say where finished rows of a result that is not whole are kept, if there are any."""
    folder = scratch_folder(job.target)
    is_kept = holds_finished_rows(folder)
    return (f"finished rows are kept in {folder}: the same command goes on from there",) if is_kept else ()
