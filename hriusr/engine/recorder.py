"""What a training run measured: metrics.jsonl in its folder, and TensorBoard.

metrics.jsonl has one JSON object a line: {"kind": "train", "iter": ..., losses, lr, speed} and {"kind": "validation",
"iter": ..., "dataset": ..., metrics}. A resumed run first drops lines from after its checkpoint, so that the file
always reads like that of a run that was never interrupted.
"""

import json
import logging
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from hriusr.atomic_file import write_atomically
from hriusr.data.matlab_resize import imresize
from hriusr.engine.run_state import RunState
from hriusr.engine.validation import SeenPictures
from hriusr.errors import HriusrError

logger = logging.getLogger(__name__)

_MOST_IMAGE_PIXELS = 512  # side of a picture in TensorBoard


class Recorder:
    """Writes measurements of one run; all methods take the iteration they belong to."""

    def __init__(self, folder: Path, tensorboard_folder: Path | None, state: RunState):
        """Open the files.

        Args:
            folder: of the run.
            tensorboard_folder: None: no TensorBoard.
            state: where the run goes on; measurements from after it are dropped.
        """
        self.path = folder / "metrics.jsonl"
        if self.path.exists():
            last = {"train": state.iteration, "validation": state.validated_iteration}
            kept = [line for line in _whole_lines(self.path) if line["iter"] <= last.get(line["kind"], state.iteration)]
            write_atomically(self.path, "".join(json.dumps(line) + "\n" for line in kept).encode("utf-8"))
        self._file = open(self.path, "a", encoding="utf-8")
        self._tensorboard = _open_tensorboard(tensorboard_folder, state.iteration) if tensorboard_folder else None

    def train(self, iteration: int, losses: Mapping[str, float], lr: float, speed: Mapping[str, float]) -> None:
        """Record mean losses and the learning rate.

        Args:
            iteration: last step of the means.
            losses: label -> value.
            lr: of that step.
            speed: iterations a second and the like; not in TensorBoard.
        """
        self._write({"kind": "train", "iter": iteration, **losses, "lr": lr, **speed})
        if self._tensorboard:
            for label, value in losses.items():
                self._tensorboard.add_scalar(f"losses/{label}" if label.startswith("l_") else label, value, iteration)
            self._tensorboard.add_scalar("lr", lr, iteration)

    def validation(self, iteration: int, dataset: str, metrics: Mapping[str, float]) -> None:
        """Record a dataset's mean metrics."""
        self._write({"kind": "validation", "iter": iteration, "dataset": dataset, **metrics})
        if self._tensorboard:
            for label, value in metrics.items():
                self._tensorboard.add_scalar(f"metrics/{dataset}/{label}", value, iteration)

    def pictures(self, iteration: int, label: str, pictures: SeenPictures) -> None:
        """Show bicubic, result and ground truth side by side in TensorBoard; the upper left part of large pictures.

        Args:
            iteration: step they were made at.
            label: dataset/name.
            pictures: RGB or grey uint8.
        """
        if self._tensorboard:
            self._tensorboard.add_image(f"images/{label}", side_by_side(pictures), iteration, dataformats="HWC")

    def __enter__(self) -> "Recorder":
        """Be closed at the end of a with statement."""
        return self

    def __exit__(self, *_: object) -> None:
        """Finish the files."""
        self._file.close()
        if self._tensorboard:
            self._tensorboard.close()

    def _write(self, line: Mapping[str, Any]) -> None:
        plain = {key: _json_number(value) if isinstance(value, float) else value for key, value in line.items()}
        try:
            self._file.write(json.dumps(plain, allow_nan=False) + "\n")
            self._file.flush()
        except OSError as error:
            raise HriusrError(
                f"cannot write {self.path}: {error.strerror}; make room and start again with the same command"
            ) from error


def side_by_side(pictures: SeenPictures) -> np.ndarray:
    """Return bicubic | result | ground truth (where there is one), (H, W, C) uint8, at most 512 pixels high each."""
    scale = pictures.result_HWC.shape[0] // pictures.lq_HWC.shape[0]
    side = max(_MOST_IMAGE_PIXELS // scale, 1)
    lq_HWC = pictures.lq_HWC[:side, :side]
    height, width = lq_HWC.shape[0] * scale, lq_HWC.shape[1] * scale
    columns = [imresize(lq_HWC, size=(height, width)), pictures.result_HWC[:height, :width]]
    if pictures.gt_HWC is not None:
        columns.append(pictures.gt_HWC[:height, :width])
    return np.concatenate(columns, axis=1)


def _json_number(value: float) -> float | str | None:
    if math.isnan(value):
        return None
    return value if math.isfinite(value) else str(value)


def _whole_lines(path: Path) -> list[dict[str, Any]]:
    """Read the lines of a metrics file; a last one that a crash cut short is left out."""
    lines = []
    for text in path.read_text(encoding="utf-8").splitlines():
        try:
            line = json.loads(text)
        except json.JSONDecodeError:
            continue
        if isinstance(line, dict) and isinstance(line.get("iter"), int) and "kind" in line:
            lines.append(line)
    return lines


def _open_tensorboard(folder: Path, iteration: int) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        logger.warning("no TensorBoard: it cannot be imported (%s); pip install tensorboard", error)
        return None
    return SummaryWriter(str(folder), purge_step=iteration + 1)
