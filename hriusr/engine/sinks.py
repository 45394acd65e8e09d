"""Where measurements go besides metrics.jsonl: TensorBoard, and Weights & Biases where a run asks for it.

Names are those of BasicSR: losses/l_pix, lr, metrics/<dataset>/<label>; ours beside them: images/<dataset>/<name>,
weights/<parameter> and gradients/<parameter> (histograms), time/<phase>_s and speed/it_per_s.
"""

import importlib
import logging
import secrets
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from torch import Tensor

from hriusr.atomic_file import write_atomically
from hriusr.errors import OptionsError

logger = logging.getLogger(__name__)

_ID_FILE = "wandb_id.txt"


class Sink(Protocol):
    """Takes measurements of one run."""

    def scalars(self, iteration: int, values: Mapping[str, float]) -> None:
        """Take numbers by name."""

    def image(self, iteration: int, name: str, image_HWC: np.ndarray) -> None:
        """Take a picture: RGB or grey uint8."""

    def histogram(self, iteration: int, name: str, values: Tensor) -> None:
        """Take a tensor, all of it finite."""

    def close(self) -> None:
        """Finish."""


class TensorBoardSink:
    """Event files for `tensorboard --logdir`; given up, with a word, where they cannot be written any more."""

    def __init__(self, folder: Path, iteration: int):
        """Open a file.

        Args:
            folder: of the run's event files.
            iteration: where the run goes on; events of after it are hidden by TensorBoard.

        Raises:
            ImportError: TensorBoard is missing.
        """
        from torch.utils.tensorboard import SummaryWriter

        self._hook_before = threading.excepthook
        threading.excepthook = self._pass_over_own_thread
        try:
            self._writer: Any = SummaryWriter(str(folder), purge_step=iteration + 1)
        except OSError as error:
            self._give_up(error)

    def scalars(self, iteration: int, values: Mapping[str, float]) -> None:
        """Take numbers by name."""
        for name, value in values.items():
            self._add("add_scalar", name, value, iteration)

    def image(self, iteration: int, name: str, image_HWC: np.ndarray) -> None:
        """Take a picture: RGB or grey uint8."""
        self._add("add_image", name, image_HWC, iteration, dataformats="HWC")

    def histogram(self, iteration: int, name: str, values: Tensor) -> None:
        """Take a tensor, all of it finite."""
        self._add("add_histogram", name, values, iteration)

    def close(self) -> None:
        """Finish the file."""
        self._add("close")
        threading.excepthook = self._hook_before

    def _add(self, method: str, *arguments: Any, **options: Any) -> None:
        if self._writer is None:
            return
        try:
            getattr(self._writer, method)(*arguments, **options)
        except OSError as error:  # of its thread, which has ended
            self._give_up(error)

    def _give_up(self, error: OSError) -> None:
        self._writer = None
        logger.warning("TensorBoard's file ends here: %s", error.strerror or error)

    def _pass_over_own_thread(self, failure: Any) -> None:
        """Say nothing of a write that failed in TensorBoard's thread: it is raised again by the next call."""
        is_own = type(failure.thread).__module__.startswith("tensorboard.")
        if not (is_own and issubclass(failure.exc_type, OSError)):
            self._hook_before(failure)


class WandbSink:
    """A run of Weights & Biases; a resumed training goes on in the same one."""

    def __init__(self, wandb_opt: Mapping[str, Any], name: str, folder: Path, config: Mapping[str, Any]):
        """Begin or go on with a run.

        Args:
            wandb_opt: logger.wandb: project, resume_id (default: the id kept in the folder), mode.
            name: of the run.
            folder: of the run; keeps the id, and wandb's own files.
            config: options, shown beside the curves.
        """
        wandb = import_wandb()
        self._wandb, id_file = wandb, folder / _ID_FILE
        run_id = wandb_opt.get("resume_id")
        if run_id is None:
            run_id = id_file.read_text(encoding="utf-8").strip() if id_file.is_file() else secrets.token_hex(4)
        write_atomically(id_file, f"{run_id}\n".encode())
        self._run = wandb.init(
            project=wandb_opt["project"],
            id=run_id,
            name=name,
            dir=str(folder),
            config=dict(config),
            mode=wandb_opt.get("mode"),
            resume="allow",
        )
        logger.info("Weights & Biases: project %s, run %s", wandb_opt["project"], run_id)

    def scalars(self, iteration: int, values: Mapping[str, float]) -> None:
        """Take numbers by name."""
        self._run.log(dict(values), step=iteration)

    def image(self, iteration: int, name: str, image_HWC: np.ndarray) -> None:
        """Take a picture: RGB or grey uint8."""
        self._run.log({name: self._wandb.Image(image_HWC)}, step=iteration)

    def histogram(self, iteration: int, name: str, values: Tensor) -> None:
        """Take a tensor, all of it finite."""
        self._run.log({name: self._wandb.Histogram(values.numpy())}, step=iteration)

    def close(self) -> None:
        """Finish the run."""
        self._run.finish()


def import_wandb() -> Any:
    """Return the package wandb, which is no requirement.

    Raises:
        OptionsError: it is not installed.
    """
    try:
        return importlib.import_module("wandb")
    except ImportError as error:
        raise OptionsError(
            f"logger.wandb wants the package wandb, which cannot be imported ({error}): pip install wandb, or take the "
            "key out of the options"
        ) from error


def open_sinks(
    opt: Mapping[str, Any], folder: Path, tensorboard_folder: Path | None, iteration: int
) -> list[TensorBoardSink | WandbSink]:
    """Open what the options ask for.

    Args:
        opt: options in BasicSR's form.
        folder: of the run.
        tensorboard_folder: None: no TensorBoard.
        iteration: where the run goes on.

    Raises:
        OptionsError: wandb is asked for and not installed.
    """
    sinks: list[TensorBoardSink | WandbSink] = []
    if tensorboard_folder is not None:
        try:
            sinks.append(TensorBoardSink(tensorboard_folder, iteration))
        except ImportError as error:
            logger.warning("no TensorBoard: it cannot be imported (%s); pip install tensorboard", error)
    if uses_wandb(opt):
        sinks.append(WandbSink(opt["logger"]["wandb"], opt["name"], folder, opt))
    return sinks


def uses_wandb(opt: Mapping[str, Any]) -> bool:
    """Tell whether a run is sent to Weights & Biases; a debug run is not."""
    return bool((opt["logger"].get("wandb") or {}).get("project")) and "debug" not in opt["name"]
