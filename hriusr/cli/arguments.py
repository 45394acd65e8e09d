"""Arguments that several commands take."""

from enum import Enum
from pathlib import Path
from typing import Annotated, Any

import typer

from hriusr.errors import OptionsError


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
Settings = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="NAME=VALUE", help="Argument of the network, where the file is wrong or silent."),
]


def parse_settings(settings: list[str] | None) -> dict[str, Any]:
    """Read `name=value` words; values as in YAML, and 2e-4 is a number.

    Raises:
        OptionsError: a word without a name or with a value that YAML refuses.
    """
    from hriusr.options.yaml_source import parse_scalar

    parsed = {}
    for word in settings or ():
        name, separator, text = word.partition("=")
        if not (separator and name.strip().isidentifier()):
            raise OptionsError(f"--set {word}: must be NAME=VALUE, as in --set window_size=8")
        value = parse_scalar(text, f"--set {name}")
        if isinstance(value, str):
            try:
                value = float(value)
            except ValueError:
                pass
        parsed[name.strip()] = value
    return parsed
