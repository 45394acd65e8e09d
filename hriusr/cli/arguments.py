"""Arguments that several commands take."""

from enum import Enum
from pathlib import Path
from typing import Annotated

import typer


class Launcher(str, Enum):
    """Who starts the processes of a run."""

    none = "none"
    pytorch = "pytorch"
    slurm = "slurm"


class Precision(str, Enum):
    """Number format of the network's forward pass."""

    fp32 = "fp32"
    bf16 = "bf16"
    fp16 = "fp16"


OptionFile = Annotated[Path, typer.Argument(metavar="FILE", help="Option file (YAML).", show_default=False)]
Overrides = Annotated[
    list[str] | None,
    typer.Option("--force_yml", metavar="A:B=C", help="Set an option, e.g. train:total_iter=1000; may be repeated."),
]
LauncherOption = Annotated[Launcher, typer.Option(help="pytorch under torchrun, slurm under srun.")]
