"""Jobs that make training and test data out of folders of pictures: LR, sub-images, LMDB databases, meta-info files.

Behind `hriusr prepare`. How they run stands in prepare_jobs.py, why they may be interrupted and run again in
output_folder.py; the usual layouts of known datasets in prepare_presets.py.
"""

import functools
import hashlib
import json
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from hriusr.atomic_file import write_atomically
from hriusr.data.image_io import encode_image, image_size, list_images, read_image, write_image
from hriusr.data.lmdb_store import is_whole_lmdb, remove_lmdb_leftovers, write_lmdb
from hriusr.data.matlab_resize import downsample
from hriusr.data.output_folder import OutputFolder
from hriusr.data.picture_paths import check_template
from hriusr.data.prepare_jobs import JobResult, output_stems, run_job
from hriusr.data.transforms import crop_to_multiple
from hriusr.errors import DataError

logger = logging.getLogger(__name__)

_LMDB_NOTE = "prepare.json"


@dataclass(frozen=True)
class _Picture:
    """One source picture and the name, without suffix, of what is made from it."""

    source: Path
    stem: str


def prepare_bicubic(
    hr_folder: str | Path,
    lr_folder: str | Path,
    *,
    scale: int,
    filename_tmpl: str | None = None,
    cropped_hr_folder: str | Path | None = None,
    num_processes: int | None = None,
    overwrite: bool = False,
    progress: bool = True,
) -> JobResult:
    """Make low-resolution pictures as MATLAB's imresize does, exact to the bit.

    Args:
        hr_folder: high-resolution pictures; surplus rows and columns are cut off at the bottom and right.
        lr_folder: where the LR pictures go, as PNG.
        scale: 2, 3, 4 ...
        filename_tmpl: LR name from an HR name, without suffix; None: '{}x<scale>'.
        cropped_hr_folder: where to write the HR pictures cropped to multiples of scale, under their own names as PNG;
            None: they are not written.
        num_processes: how many work at once; None: one a CPU core.
        overwrite: make everything again.
        progress: show a bar on stderr.

    Raises:
        DataError: the folder is missing or empty; pictures are unreadable or smaller than scale (others are made).
    """
    if scale < 1:
        raise DataError(f"scale (={scale}) must be at least 1")
    template = f"{{}}x{scale}" if filename_tmpl is None else filename_tmpl
    check_template(template, "template", f"{{}}x{scale}")
    pictures = _list_pictures([hr_folder])
    _refuse_same_folder([hr_folder], lr_folder, cropped_hr_folder)
    if cropped_hr_folder is not None and Path(lr_folder).resolve() == Path(cropped_hr_folder).resolve():
        raise DataError(f"{lr_folder} is to hold LR and the cropped HR: give each a folder of its own")
    options = {"job": "bicubic", "scale": scale}
    sources = [picture.source for picture in pictures]
    lr_output = OutputFolder.open(lr_folder, options, sources, overwrite=overwrite)
    hr_output = None
    if cropped_hr_folder is not None:
        crop = {"job": "crop", "multiple": scale}
        hr_output = OutputFolder.open(cropped_hr_folder, crop, sources, overwrite=overwrite)
    work = functools.partial(_make_lr, scale=scale, template=template, lr_output=lr_output, hr_output=hr_output)
    was_made = list(run_job(f"LR x{scale}", work, pictures, num_processes=num_processes, progress=progress))
    lr_output.warn_of_strangers(f"{template.format(picture.stem)}.png" for picture in pictures)
    return JobResult(lr_output.path, sum(was_made), len(was_made) - sum(was_made))


def prepare_subimages(
    folders: str | Path | Sequence[str | Path],
    target: str | Path,
    *,
    crop_size: int = 480,
    step: int = 240,
    threshold: int = 0,
    multiple: int = 1,
    filename_tmpl: str = "{}",
    num_processes: int | None = None,
    overwrite: bool = False,
    progress: bool = True,
) -> JobResult:
    """Cut large pictures into overlapping squares, which a training run reads faster.

    The grid and the names (`<name>_s001.png` ...) are those of BasicSR's extract_subimages. For LR, give crop_size,
    step and multiple divided by the scale: the squares then lie on those of HR.

    Args:
        folders: one folder of pictures, or several whose pictures go into one.
        target: where the squares go, as PNG.
        crop_size: side of a square, pixels.
        step: distance of neighbours, pixels.
        threshold: a last square flush with the border is added where more than this many pixels would be left out.
        multiple: each picture is first cropped to a multiple of this; else HR and LR grids could differ at the border.
        filename_tmpl: what to strip from the names, such as '{}x2' for LR, so that HR and LR get the same.
        num_processes: how many work at once; None: one a CPU core.
        overwrite: make everything again.
        progress: show a bar on stderr.

    Raises:
        DataError: a folder is missing or empty, pictures are unreadable, or all are smaller than crop_size.
    """
    for name, value in (("crop_size", crop_size), ("step", step), ("multiple", multiple)):
        if value < 1:
            raise DataError(f"{name} (={value}) must be at least 1")
    folders = [folders] if isinstance(folders, str | Path) else folders
    pictures = _list_pictures(folders, filename_tmpl)
    _refuse_same_folder(folders, target)
    grid = {"crop_size": crop_size, "step": step, "threshold": threshold, "multiple": multiple}
    sources = [picture.source for picture in pictures]
    output = OutputFolder.open(target, {"job": "sub-images", **grid}, sources, overwrite=overwrite)
    work = functools.partial(_cut_subimages, output=output, **grid)
    cuts = list(run_job("sub-images", work, pictures, num_processes=num_processes, progress=progress))
    names = [name for made, kept in cuts for name in (*made, *kept)]
    num_small = sum(not made and not kept for made, kept in cuts)
    if not names:
        raise DataError(
            f"no picture of {', '.join(map(str, folders))} is as large as crop_size (={crop_size}): lower crop_size, "
            "or train without sub-images"
        )
    if num_small:
        logger.warning("%d of %d pictures are smaller than crop_size (=%d): left out", num_small, len(cuts), crop_size)
    output.warn_of_strangers(names)
    num_made = sum(len(made) for made, _ in cuts)
    return JobResult(output.path, num_made, len(names) - num_made)


def prepare_lmdb(
    folder: str | Path,
    target: str | Path,
    *,
    compression: int = 1,
    filename_tmpl: str = "{}",
    num_processes: int | None = None,
    overwrite: bool = False,
    progress: bool = True,
) -> JobResult:
    """Put a folder of pictures into an LMDB database as BasicSR lays it out.

    Args:
        folder: pictures.
        target: the database, named X.lmdb; it appears when it is whole.
        compression: PNG level 0..9; low ones are decoded faster.
        filename_tmpl: what to strip from the names, such as '{}x2' for LR: both databases must have the same keys.
        num_processes: how many encode at once; None: one a CPU core.
        overwrite: make it again though it is up to date.
        progress: show a bar on stderr.

    Raises:
        DataError: the folder is missing or empty, pictures are unreadable, or the name does not end in .lmdb.
    """
    target = Path(target)
    if target.suffix != ".lmdb":
        raise DataError(f"{target} must be named .lmdb: BasicSR tells databases from folders by that")
    pictures = _list_pictures([folder], filename_tmpl)
    note = json.dumps({"compression": compression, "sources": _fingerprint(pictures)})
    if not overwrite and _is_noted(target, note, [picture.stem for picture in pictures]):
        remove_lmdb_leftovers(target, [_LMDB_NOTE])
        return JobResult(target, 0, len(pictures))
    sizes = [image_size(picture.source) for picture in pictures]
    # PNG of noise is hardly larger than its pixels; 2 bytes each, because they may be 16 bit
    map_size = sum(6 * height * width + 2**16 for height, width in sizes) + 2**24
    work = functools.partial(_encode, compression=compression)
    encoded = run_job("LMDB", work, pictures, num_processes=num_processes, progress=progress)
    write_lmdb(target, encoded, map_size=map_size, compression=compression, notes={_LMDB_NOTE: note})
    return JobResult(target, len(pictures), 0)


def prepare_meta_info(folder: str | Path, target: str | Path, *, recursive: bool = False) -> JobResult:
    """List the pictures of a folder in a meta-info file: `name (height,width,3)` a line.

    Args:
        folder: the ground truth.
        target: the text file.
        recursive: also the folders below; names are then relative paths.

    Raises:
        DataError: the folder is missing or empty, or a picture's header is unreadable.
    """
    paths = list_images(folder, recursive=recursive)
    lines = []
    for path in paths:
        height, width = image_size(path)
        lines.append(f"{path.relative_to(folder).as_posix()} ({height},{width},3)\n")
    write_atomically(target, "".join(lines).encode())
    return JobResult(Path(target), len(lines), 0)


def _list_pictures(folders: Sequence[str | Path], filename_tmpl: str = "{}") -> list[_Picture]:
    sources = [path for folder in folders for path in list_images(folder)]
    return [_Picture(*pair) for pair in zip(sources, output_stems(sources, filename_tmpl), strict=True)]


def _refuse_same_folder(sources: Sequence[str | Path], *targets: str | Path | None) -> None:
    for target in targets:
        if target is not None and Path(target).resolve() in [Path(source).resolve() for source in sources]:
            raise DataError(f"{target} is the folder of the sources: give another one for what is made from them")


def _make_lr(
    picture: _Picture, scale: int, template: str, lr_output: OutputFolder, hr_output: OutputFolder | None
) -> bool:
    """Make one LR picture, and the cropped HR where it is asked for; False where both are there already."""
    height, width = image_size(picture.source)
    lr_size = height // scale, width // scale
    if 0 in lr_size:
        raise DataError(f"{picture.source} ({width}x{height}) is smaller than scale (={scale}): take it out")
    lr_name, hr_name = f"{template.format(picture.stem)}.png", f"{picture.stem}.png"
    needs_lr = not lr_output.has(lr_name, picture.source, lr_size)
    hr_size = lr_size[0] * scale, lr_size[1] * scale
    needs_hr = hr_output is not None and not hr_output.has(hr_name, picture.source, hr_size)
    if needs_lr or needs_hr:
        hr_HWC = crop_to_multiple(read_image(picture.source), scale)
        if needs_hr:
            write_image(hr_output.path / hr_name, hr_HWC)
        if needs_lr:
            write_image(lr_output.path / lr_name, downsample(hr_HWC, scale))
    return needs_lr or needs_hr


def _cut_subimages(
    picture: _Picture, output: OutputFolder, crop_size: int, step: int, threshold: int, multiple: int
) -> tuple[list[str], list[str]]:
    """Cut one picture; return the names made and the names that were there already."""
    height, width = (side - side % multiple for side in image_size(picture.source))
    corners = [
        (top, left)
        for top in grid_offsets(height, crop_size, step, threshold)
        for left in grid_offsets(width, crop_size, step, threshold)
    ]
    named = {f"{picture.stem}_s{number:03d}.png": corner for number, corner in enumerate(corners, 1)}
    kept = [name for name in named if output.has(name, picture.source, (crop_size, crop_size))]
    made = [name for name in named if name not in set(kept)]
    if made:
        image_HWC = read_image(picture.source)
        for name in made:
            top, left = named[name]
            write_image(output.path / name, image_HWC[top : top + crop_size, left : left + crop_size])
    return made, kept


def grid_offsets(length: int, crop_size: int, step: int, threshold: int) -> list[int]:
    """Return where squares begin along one side; none where the side is shorter than a square."""
    offsets = list(range(0, length - crop_size + 1, step))
    if offsets and length - (offsets[-1] + crop_size) > threshold:
        offsets.append(length - crop_size)
    return offsets


def _encode(picture: _Picture, compression: int) -> tuple[str, bytes, tuple[int, int, int]]:
    image_HWC = read_image(picture.source)
    return picture.stem, encode_image(image_HWC, ".png", png_compression=compression), image_HWC.shape


def _fingerprint(pictures: Sequence[_Picture]) -> str:
    """Hash names, lengths and times of the sources: another picture gives another database."""
    lines: Iterator[str] = (
        f"{picture.source} {picture.stem} {status.st_size} {status.st_mtime_ns}"
        for picture in pictures
        for status in (picture.source.stat(),)
    )
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def _is_noted(database: Path, note: str, stems: Sequence[str]) -> bool:
    """Tell whether a database with these keys carries this very note."""
    try:
        return (database / _LMDB_NOTE).read_text(encoding="utf-8") == note and is_whole_lmdb(database, stems)
    except (OSError, UnicodeDecodeError):
        return False
