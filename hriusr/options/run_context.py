"""How one process runs: what the command line and the launcher's environment say, beside the option file."""

import os
from dataclasses import dataclass, field
from pathlib import Path

from hriusr.errors import OptionsError

# launcher -> environment variables that hold the rank and the number of processes (torchrun's and srun's)
LAUNCHERS = {"none": None, "pytorch": ("RANK", "WORLD_SIZE"), "slurm": ("SLURM_PROCID", "SLURM_NTASKS")}


@dataclass(frozen=True)
class RunContext:
    """Facts of this run that are not options.

    Attributes:
        is_train: train.py rather than test.py.
        option_file: the file the options were read from.
        root_path: experiments/, results/ and tb_logger/ are made here: the current folder.
        auto_resume: go on from the newest training state of the same name, whatever its options.
        launcher: none, pytorch or slurm.
        is_seed_drawn: manual_seed was unset and is a new one at each start.
        rank: number of this process, 0 is the one that writes.
        world_size: number of processes.
        warnings: what was ignored or looks odd in the option file, for the log.
    """

    is_train: bool = True
    option_file: Path | None = None
    root_path: Path = field(default_factory=Path.cwd)
    auto_resume: bool = False
    launcher: str = "none"
    is_seed_drawn: bool = False
    rank: int = 0
    world_size: int = 1
    warnings: tuple[str, ...] = ()

    @property
    def is_distributed(self) -> bool:
        """Whether a launcher started several processes (or one that behaves so)."""
        return self.launcher != "none"


def rank_and_world_size(launcher: str) -> tuple[int, int]:
    """Read this process's number and the number of processes from the environment.

    Args:
        launcher: none, pytorch or slurm.

    Returns:
        (rank, world_size); (0, 1) without a launcher.

    Raises:
        OptionsError: an unknown launcher, or one that did not set its variables.
    """
    if launcher not in LAUNCHERS:
        raise OptionsError(f"--launcher {launcher} is unknown: one of {', '.join(LAUNCHERS)}")
    variables = LAUNCHERS[launcher]
    if variables is None:
        if "TORCHELASTIC_RUN_ID" in os.environ and os.environ.get("WORLD_SIZE", "1") != "1":
            raise OptionsError("torchrun started several processes; add --launcher pytorch, or each runs for itself")
        return 0, 1
    try:
        rank, world_size = (int(os.environ[variable]) for variable in variables)
    except (KeyError, ValueError) as error:
        starter = "torchrun" if launcher == "pytorch" else "srun"
        raise OptionsError(
            f"--launcher {launcher} needs the environment variables {' and '.join(variables)}: start with {starter}"
        ) from error
    return rank, world_size
