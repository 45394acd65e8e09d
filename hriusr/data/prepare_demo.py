"""A small real dataset without a download: photographs that ship inside the scikit-image wheel.

    <root>/train/HR/*.png    <root>/train/LR_bicubic/X<s>/<name>x<s>.png
    <root>/test/HR/*.png     <root>/test/LR_bicubic/X<s>/<name>x<s>.png

Training and held-out pictures are different photographs. The docstrings in skimage.data say where each comes from; most
are in the public domain or CC0. This shows that everything works; it is far too little to train a good network on.
"""

import functools
import importlib.util
import logging
from collections.abc import Sequence
from pathlib import Path

from hriusr.data.image_io import read_image, write_image
from hriusr.data.output_folder import OutputFolder
from hriusr.data.prepare import prepare_bicubic
from hriusr.data.prepare_jobs import JobResult, run_job
from hriusr.errors import DataError

logger = logging.getLogger(__name__)

TRAINING_PICTURES = (
    "astronaut.png",
    "rocket.jpg",
    "motorcycle_left.png",
    "hubble_deep_field.jpg",
    "retina.jpg",
    "ihc.png",
    "camera.png",
    "brick.png",
    "grass.png",
    "gravel.png",
    "moon.png",
    "coins.png",
)
HELD_OUT_PICTURES = ("chelsea.png", "coffee.png")
_LONGEST_SIDE = 720
_MULTIPLE = 12  # divisible by the scales 2, 3 and 4


def prepare_demo(
    root: str | Path = "datasets/demo",
    *,
    scales: Sequence[int] = (2,),
    num_processes: int | None = None,
    overwrite: bool = False,
    progress: bool = True,
) -> list[JobResult]:
    """Write HR and LR pictures of the demonstration dataset; takes seconds.

    Args:
        root: the dataset's folder.
        scales: factors to make LR for.
        num_processes: how many pictures are worked on at once; None: one a CPU core.
        overwrite: make everything again.
        progress: show bars on stderr.

    Returns:
        What each job did.

    Raises:
        DataError: scikit-image is not installed, or ships none of the pictures.
    """
    root, photographs = Path(root), _photograph_folder()
    keywords = {"num_processes": num_processes, "overwrite": overwrite, "progress": progress}
    results = []
    for part, names in (("train", TRAINING_PICTURES), ("test", HELD_OUT_PICTURES)):
        options = {"job": "demo", "longest_side": _LONGEST_SIDE, "multiple": _MULTIPLE}
        sources = [photographs / name for name in names if (photographs / name).is_file()]
        if not sources:
            raise DataError(f"{photographs} holds none of {', '.join(names)}: pip install --upgrade scikit-image")
        if len(sources) < len(names):
            logger.warning("%s holds %d of %d pictures", photographs, len(sources), len(names))
        output = OutputFolder.open(root / part / "HR", options, sources, overwrite=overwrite)
        work = functools.partial(_write_hr, output=output)
        was_made = list(run_job(f"{part} HR", work, sources, num_processes=num_processes, progress=progress))
        results.append(JobResult(output.path, sum(was_made), len(was_made) - sum(was_made)))
        for scale in scales:
            lr_folder = root / part / "LR_bicubic" / f"X{scale}"
            results.append(prepare_bicubic(output.path, lr_folder, scale=scale, **keywords))
    return results


def _photograph_folder() -> Path:
    """Find the pictures beside skimage/data; nothing of scikit-image is imported, so nothing is downloaded."""
    found = importlib.util.find_spec("skimage")
    if found is None:
        raise DataError("the demonstration pictures come with scikit-image: pip install scikit-image")
    return Path(found.submodule_search_locations[0]) / "data"


def _write_hr(source: Path, output: OutputFolder) -> bool:
    """Cut the middle out of one photograph; False where that is there already."""
    image_HWC = read_image(source)
    height, width = (min(side, _LONGEST_SIDE) // _MULTIPLE * _MULTIPLE for side in image_HWC.shape[:2])
    name = f"{source.stem}.png"
    if output.has(name, source, (height, width)):
        return False
    top, left = (image_HWC.shape[0] - height) // 2, (image_HWC.shape[1] - width) // 2
    write_image(output.path / name, image_HWC[top : top + height, left : left + width])
    return True
