"""What a training run measured: metrics.jsonl in its folder, TensorBoard, Weights & Biases.

metrics.jsonl has one JSON object a line, schema 1 (a key may be added; one that changes its meaning raises the number):

| key | in lines of kind | meaning |
|---|---|---|
| schema, kind, iter | all | 1; train or validation; step, from 1 |
| l_pix, l_percep ... | train | mean of a loss over the steps since the line before; null where no step was finite |
| nonfinite_steps, spikes | train | steps left out so far; absent while there are none |
| lr | train | learning rate of this step |
| it_per_s, data_share | train | steps a second; part of that time spent waiting for data, 0..1 |
| data_s, compute_s, validation_s, save_s | train | seconds since the line before, see speedometer.PHASES |
| dataset, <metric> ... | validation | name of the set; mean of each metric over its pictures |

Infinities are the texts "inf" and "-inf". A resumed run first drops lines from after its checkpoint, so that the file
always reads like that of a run that was never interrupted (times and speeds apart).
"""

import errno
import json
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from hriusr.atomic_file import write_atomically
from hriusr.data.matlab_resize import imresize
from hriusr.engine.run_state import RunState
from hriusr.engine.sinks import Sink
from hriusr.engine.speedometer import PHASES, Speed
from hriusr.engine.validation import SeenPictures
from hriusr.errors import HriusrError
from hriusr.models.parallel import local

SCHEMA = 1

_TIMES = {f"{phase}_s" for phase in PHASES}
_MOST_IMAGE_PIXELS = 512  # side of a picture in TensorBoard


class Recorder:
    """Writes measurements of one run; all methods take the iteration they belong to."""

    def __init__(
        self, folder: Path, state: RunState, sinks: Sequence[Sink] = (), *, going_on: str = "the same command"
    ):
        """Open the file.

        Args:
            folder: of the run.
            state: where the run goes on; measurements from after it are dropped.
            sinks: take the measurements too; closed with the recorder.
            going_on: the command that goes on with the run, for messages.
        """
        self.path = folder / "metrics.jsonl"
        if self.path.exists():
            last = {"train": state.iteration, "validation": state.validated_iteration}
            kept = [line for line in _whole_lines(self.path) if line["iter"] <= last.get(line["kind"], state.iteration)]
            write_atomically(self.path, "".join(json.dumps(line) + "\n" for line in kept).encode("utf-8"))
        self._file = open(self.path, "ab", buffering=0)  # nothing is left to be written when it is closed
        self._sinks, self._going_on = sinks, going_on

    def train(self, iteration: int, losses: Mapping[str, float], lr: float, speed: Speed | None = None) -> None:
        """Record mean losses and the learning rate.

        Args:
            iteration: last step of the means.
            losses: label -> value.
            lr: of that step.
            speed: since the line before.
        """
        times = speed.as_dict() if speed else {}
        self._write({"kind": "train", "iter": iteration, **losses, "lr": lr, **times})
        values = {f"losses/{label}" if label.startswith("l_") else label: value for label, value in losses.items()}
        shown = {f"{'time' if name in _TIMES else 'speed'}/{name}": value for name, value in times.items()}
        self._scalars(iteration, {**values, "lr": lr, **shown})

    def validation(self, iteration: int, dataset: str, metrics: Mapping[str, float]) -> None:
        """Record a dataset's mean metrics."""
        self._write({"kind": "validation", "iter": iteration, "dataset": dataset, **metrics})
        self._scalars(iteration, {f"metrics/{dataset}/{label}": value for label, value in metrics.items()})

    def pictures(self, iteration: int, label: str, pictures: SeenPictures) -> None:
        """Show bicubic, result and ground truth side by side; the upper left part of large pictures.

        Args:
            iteration: step they were made at.
            label: dataset/name.
            pictures: RGB or grey uint8.
        """
        if self._sinks:
            shown_HWC = side_by_side(pictures)
            for sink in self._sinks:
                sink.image(iteration, f"images/{label}", shown_HWC)

    def histograms(self, iteration: int, parameters: Iterable[tuple[str, nn.Parameter]]) -> None:
        """Show how weights and their gradients, where there are any, are distributed.

        Args:
            iteration: step that was just done.
            parameters: name -> parameter; its gradient is that of the step, clipped if that is asked for. Of sharded
                ones (parallel: fsdp) this process's part is shown.
        """
        for name, parameter in parameters if self._sinks else ():
            for kind, tensor in (("weights", parameter), ("gradients", parameter.grad)):
                values = None if tensor is None else local(tensor.detach()).float().cpu()
                if values is not None and values.numel() and torch.isfinite(values).all():
                    for sink in self._sinks:
                        sink.histogram(iteration, f"{kind}/{name}", values)

    def __enter__(self) -> "Recorder":
        """Be closed at the end of a with statement."""
        return self

    def __exit__(self, *_: object) -> None:
        """Finish the files."""
        self._file.close()
        for sink in self._sinks:
            sink.close()

    def _scalars(self, iteration: int, values: Mapping[str, float]) -> None:
        for sink in self._sinks:
            sink.scalars(iteration, values)

    def _write(self, line: Mapping[str, Any]) -> None:
        plain = {key: _json_number(value) if isinstance(value, float) else value for key, value in line.items()}
        content = (json.dumps({"schema": SCHEMA, **plain}, allow_nan=False) + "\n").encode("utf-8")
        try:
            if self._file.write(content) < len(content):  # a disk that was not yet full took a part
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError as error:
            raise HriusrError(
                f"cannot write {self.path}: {error.strerror}; make room and start again with {self._going_on}"
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
