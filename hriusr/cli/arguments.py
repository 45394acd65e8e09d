"""Arguments that several commands take."""

from enum import Enum
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from hriusr.errors import OptionsError, WeightsError


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


class OptionFileCommand(TyperCommand):
    """A command with an option file, which takes the command line of train.py too: -opt FILE --force_yml A=1 B=2."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Leave -opt out before the file, and repeat --force_yml before each of its words."""
        written: list[str] = []
        is_override = False  # whether the word before is one: another may follow
        words = iter(args)
        for word in words:
            if word == "--force_yml":
                value = next(words, None)
                written += [word] if value is None else [word, value]
                is_override = True
            elif is_override and "=" in word and not word.startswith("-"):
                written += ["--force_yml", word]
            else:
                is_override = False
                name, equals, file = word.partition("=")
                if name not in ("-opt", "--opt"):
                    written.append(word)
                elif equals:
                    written.append(file)
        return super().parse_args(ctx, written)


OptionFile = Annotated[
    Path, typer.Argument(metavar="FILE", help="Option file (YAML); -opt FILE is the same.", show_default=False)
]
Overrides = Annotated[
    list[str] | None,
    typer.Option("--force_yml", metavar="A:B=C", help="Set options: train:total_iter=1000 scale=4."),
]
AutoResume = Annotated[bool, typer.Option("--auto_resume", help="Go on, also with other options.")]
Debug = Annotated[bool, typer.Option("--debug", help="Log each step, validate and save every 8.")]
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


def with_ending(weights: Path, ending: str) -> Path:
    """Name a file like another one, with another ending.

    Raises:
        WeightsError: it has no name: "", or a folder such as ".".
    """
    if not weights.name:
        raise WeightsError(f"weights {str(weights)!r}: a folder, not a weights file; name the file in it")
    return weights.with_suffix(ending)
