"""`hriusr lam`: local attribution maps of many windows and pictures, as pictures and numbers, and their mean.

A window that cannot be done gets a line and does not stop the others.
"""

import json
import shlex
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from hriusr.analysis.attribution import LocalAttribution, PathSettings, Window, local_attribution
from hriusr.analysis.attribution_picture import attribution_picture
from hriusr.analysis.concentration import diffusion_index, gini, reach
from hriusr.analysis.subject import read_low_resolution
from hriusr.atomic_file import check_writable, write_atomically
from hriusr.data.image_io import list_images, write_image
from hriusr.errors import DataError, HriusrError
from hriusr.upscaling.picture_upscaler import PictureUpscaler

DEFAULT_SIZE = 16  # of a window, the authors'
_RING_SHARE = 16  # the border of a crop: a sixteenth of its side
_FAR = 0.02  # this part of the attribution on the crop's border means that the network looks farther

Progress = Callable[[str, int, int], None]  # what, steps done, steps in all


@dataclass(frozen=True)
class Place:
    """One window of one picture; the centre where none is given."""

    picture: Path
    window: Window | None = None
    size: int = DEFAULT_SIZE


@dataclass
class LamReport:
    """Numbers of a run.

    Attributes:
        settings: what all positions share.
        positions: one entry a window.
        failed: picture, window and reason of what could not be done.
        notes: what a reader should know, one line each.
    """

    settings: dict[str, Any]
    positions: list[dict[str, Any]] = field(default_factory=list)
    failed: list[dict[str, Any]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """Return everything, with the mean diffusion index, for JSON."""
        indices = [entry["diffusion_index"] for entry in self.positions]
        mean = {
            "diffusion_index": float(np.mean(indices)) if indices else None,
            "standard_deviation": float(np.std(indices)) if indices else None,
            "num_positions": len(indices),
            "num_pictures": len({entry["picture"] for entry in self.positions}),
        }
        return {**self.settings, "mean": mean, "positions": self.positions, "failed": self.failed, "notes": self.notes}


def read_places(list_file: str | Path, size: int = DEFAULT_SIZE) -> list[Place]:
    """Read a list of windows: `PICTURE [X Y [SIZE]]` a line, `#` starts a comment, names with spaces in quotes.

    Args:
        list_file: pictures are looked for beside it, then where the command runs.
        size: of windows without a size.

    Raises:
        DataError: no such file, or a line that says something else.
    """
    list_file = Path(list_file)
    try:
        lines = list_file.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"list {list_file} cannot be read ({error}): give a text file") from None
    places = []
    for number, line in enumerate(lines, start=1):
        try:
            words = shlex.split(line, comments=True)
            if words:
                beside = list_file.parent / words[0]
                path = beside if beside.exists() else Path(words[0])
                places.append(_place(path, [int(word) for word in words[1:]], size))
        except ValueError:
            raise DataError(f"{list_file}:{number}: {line!r} must be PICTURE [X Y [SIZE]]") from None
    if not places:
        raise DataError(f"list {list_file} names no picture: write PICTURE X Y SIZE a line")
    return places


def places_of(pictures: Iterable[Path], windows: Sequence[Sequence[int]], size: int = DEFAULT_SIZE) -> list[Place]:
    """Combine each picture with each window.

    Args:
        pictures: files, or folders of them.
        windows: (X, Y) or (X, Y, SIZE); none: the centre.
        size: of windows without a size.

    Raises:
        DataError: a folder holds no picture.
    """
    paths = [path for given in pictures for path in (list_images(given) if given.is_dir() else [given])]
    return [_place(path, window, size) for path in paths for window in windows or [()]]


def _place(path: Path, numbers: Sequence[int], size: int = DEFAULT_SIZE) -> Place:
    match numbers:
        case []:
            return Place(path, None, size)
        case [left, top]:
            return Place(path, Window(left, top, size))
        case [left, top, own_size]:
            return Place(path, Window(left, top, own_size))
    raise ValueError(f"window {numbers} must be X Y or X Y SIZE")


def explain_places(
    upscaler: PictureUpscaler,
    places: Sequence[Place],
    folder: str | Path,
    *,
    crop: int | None = 64,
    is_hr: bool = False,
    settings: PathSettings | None = None,
    about: Mapping[str, Any] | None = None,
    progress: Progress | None = None,
) -> LamReport:
    """Compute, draw and write local attribution maps.

    Args:
        upscaler: the network on its device.
        places: what to explain.
        folder: gets a picture `<name>_x<X>_y<Y>_s<SIZE>.png` for each, and lam.json with all numbers.
        crop: low-resolution pixels a side that the network is shown; None: the whole picture.
        is_hr: the pictures are high resolution, to be shrunk first.
        settings: of the path.
        about: put in front of the numbers, what JSON can hold.
        progress: called after each step.

    Raises:
        HriusrError: the folder cannot be written.
    """
    check_writable(Path(folder, "lam.json"))
    settings = settings or PathSettings()
    crop = None if crop is None else -(-crop // upscaler.alignment) * upscaler.alignment
    shared = {**(about or {}), "scale": upscaler.scale, "crop": crop, "made_from_hr": is_hr}
    shared |= {"sigma": settings.sigma, "steps": settings.steps, "kernel_size": settings.kernel_size}
    report = LamReport({**shared, "precision": "fp32", "device": str(upscaler.device)})
    taken: set[str] = set()
    for number, place in enumerate(places):
        name = f"{number + 1}/{len(places)} {place.picture.name}"

        def show(done: int, count: int, name: str = name) -> None:
            if progress is not None:
                progress(name, done, count)

        try:
            image_HWC = read_low_resolution(
                place.picture, scale=upscaler.scale, is_hr=is_hr, num_channels=upscaler.num_channels
            )
            window = place.window or _centre(image_HWC, upscaler.scale, place.size)
            arguments = {"scale": upscaler.scale, "crop": crop, "alignment": upscaler.alignment}
            found = local_attribution(
                upscaler.network, image_HWC, window, **arguments, settings=settings, progress=show
            )
        except HriusrError as error:
            report.failed.append(
                {"picture": str(place.picture), "window": place.window and place.window._asdict(), "reason": str(error)}
            )
            continue
        entry = describe(found, window)
        picture_HWC = attribution_picture(
            found, image_HWC, window, scale=upscaler.scale, diffusion_index=entry["diffusion_index"]
        )
        target = _unused_name(Path(folder), f"{place.picture.stem}_x{window.left}_y{window.top}_s{window.size}", taken)
        write_image(target, picture_HWC)
        size = {"width": image_HWC.shape[1], "height": image_HWC.shape[0]}
        report.positions.append({"picture": str(place.picture), "lr_size": size, **entry, "file": str(target)})
        _note_crop(report, place.picture, image_HWC.shape[:2], found)
    if len({tuple(entry["box"][side] for side in ("width", "height")) for entry in report.positions}) > 1:
        report.notes.append("the maps differ in size, on which the diffusion index depends: mind that in the mean")
    content = json.dumps(report.as_dict(), indent=2) + "\n"
    write_atomically(Path(folder, "lam.json"), content.encode())
    return report


def describe(found: LocalAttribution, window: Window) -> dict[str, Any]:
    """Put an attribution into numbers; rows and columns are those of the whole low-resolution picture."""
    map_HW, box = found.map, found.box
    held = reach(map_HW)
    for part in held.values():
        part["rows"] = [row + box.top for row in part["rows"]]
        part["columns"] = [column + box.left for column in part["columns"]]
    return {
        "window": window._asdict(),
        "box": box._asdict(),
        "diffusion_index": diffusion_index(map_HW),
        "gini": gini(map_HW),
        "reach": held,
        "completeness": {
            "attribution_sum": float(found.signed_CHW.sum()),
            "detail_change": found.detail_sharp - found.detail_blurred,
            "relative_error": found.completeness_error,
        },
    }


def _centre(image_HWC: np.ndarray, scale: int, size: int) -> Window:
    height, width = image_HWC.shape[0] * scale, image_HWC.shape[1] * scale
    return Window((width - size) // 2, (height - size) // 2, size)


def _note_crop(report: LamReport, picture: Path, shape: tuple[int, int], found: LocalAttribution) -> None:
    """Say that a part was shown, and whether the network would have looked beyond it."""
    box, map_HW = found.box, found.map
    if (box.height, box.width) == shape:
        return
    note = f"the network saw crops of {box.width}x{box.height} around the windows; --crop takes more or less, 0 all"
    if note not in report.notes:
        report.notes.append(note)
    ring = max(1, min(box.height, box.width) // _RING_SHARE)
    sides = [  # where the crop ends, but not the picture
        map_HW[:ring].sum() if box.top > 0 else 0.0,
        map_HW[-ring:].sum() if box.top + box.height < shape[0] else 0.0,
        map_HW[:, :ring].sum() if box.left > 0 else 0.0,
        map_HW[:, -ring:].sum() if box.left + box.width < shape[1] else 0.0,
    ]
    share = max(sides) / map_HW.sum()
    if share > _FAR:
        report.notes.append(
            f"{picture.name}: {100 * share:.1f} % of the attribution lies at one border of the crop (outer {ring} "
            "pixels): the network looks farther, take a larger --crop"
        )


def _unused_name(folder: Path, stem: str, taken: set[str]) -> Path:
    """Return folder/stem.png, numbered where a picture of the same name came before."""
    name, number = stem, 2
    while name in taken:
        name, number = f"{stem}_{number}", number + 1
    taken.add(name)
    return folder / f"{name}.png"
