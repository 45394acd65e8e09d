"""The command `hriusr`: a front of every job, each of them one function call away.

Commands import what they need when they run, so that `hriusr --help` answers at once.
"""

import json
import sys
from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from hriusr.cli_prepare import prepare_app
from hriusr.entry import guarded, load_checked_options, run_option_file
from hriusr.errors import HriusrError

app = typer.Typer(
    name="hriusr",
    help="Super-resolution with hyperbolic relative imprinting units: prepare data, train, test, upscale.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
options_app = typer.Typer(help="Look at option files without running them.", no_args_is_help=True)
app.add_typer(prepare_app, name="prepare")
app.add_typer(options_app, name="options")


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
AsTest = Annotated[bool, typer.Option("--test", help="Read it as test.py does, not as train.py.")]


def _show_version(is_wanted: bool) -> None:
    if is_wanted:
        from hriusr import __version__

        typer.echo(f"hriusr {__version__}")
        raise typer.Exit


@app.callback()
def hriusr(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Super-resolution with hyperbolic relative imprinting units: prepare data, train, test, upscale."""


@app.command()
@guarded
def train(
    option_file: OptionFile,
    force_yml: Overrides = None,
    launcher: LauncherOption = Launcher.none,
    auto_resume: Annotated[bool, typer.Option("--auto_resume", help="Go on from the newest state.")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Log each step, validate and save every 8.")] = False,
) -> None:
    """Train a network as an option file says; same as python hriusr/train.py -opt FILE."""
    run_option_file(
        option_file,
        is_train=True,
        overrides=force_yml or (),
        launcher=launcher.value,
        auto_resume=auto_resume,
        debug=debug,
    )


@app.command("test")
@guarded
def evaluate(option_file: OptionFile, force_yml: Overrides = None, launcher: LauncherOption = Launcher.none) -> None:
    """Test a network as an option file says; same as python hriusr/test.py -opt FILE."""
    run_option_file(option_file, is_train=False, overrides=force_yml or (), launcher=launcher.value)


@app.command()
@guarded
def upscale(
    picture: Annotated[Path, typer.Argument(metavar="PICTURE_OR_FOLDER", show_default=False, help="What to enlarge.")],
    weights: Annotated[Path, typer.Option("--weights", "-w", help="Network file: .pth or .safetensors.")],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="File or folder; default: <name>_x<scale> beside the input.")
    ] = None,
    tile_size: Annotated[
        int | None, typer.Option(min=0, help="Side of a tile, low-resolution pixels; 0: none; default: by free memory.")
    ] = None,
    tile_overlap: Annotated[
        int | None, typer.Option(min=0, help="Pixels read around a tile; default: two windows of the network.")
    ] = None,
    batch_size: Annotated[int | None, typer.Option(min=1, help="Tiles at once; default: by free memory.")] = None,
    precision: Annotated[Precision, typer.Option(help="bf16 and fp16 are faster on GPUs.")] = Precision.fp32,
    device: Annotated[str | None, typer.Option(help="cpu, cuda, cuda:1 ...; default: the GPU if there is one.")] = None,
    suffix: Annotated[str | None, typer.Option(help="Put behind each result's name.")] = None,
    extension: Annotated[
        str | None, typer.Option(help="png, jpg, tif ...; default: the input's if lossless, else png.")
    ] = None,
    recursive: Annotated[bool, typer.Option(help="Also the folders below.")] = True,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace results that exist.")] = False,
    jpeg_quality: Annotated[int, typer.Option(min=0, max=100, help="Of results in JPEG.")] = 95,
) -> None:
    """Enlarge a picture or all pictures of a folder; grey, transparency and 16 bits are kept."""
    from rich.console import Console

    from hriusr.engine.upscale import upscale_path

    report = upscale_path(
        picture,
        output,
        weights=weights,
        tile_size=tile_size,
        tile_overlap=tile_overlap,
        batch_size=batch_size,
        precision=precision.value,
        device=device,
        suffix=suffix,
        extension=extension,
        recursive=recursive,
        overwrite=overwrite,
        jpeg_quality=jpeg_quality,
        console=Console(stderr=True),
    )
    if report.failures:
        raise HriusrError(f"{len(report.failures)} of {len(report.outcomes)} picture(s) failed, see above")


@options_app.command()
@guarded
def check(option_file: OptionFile, force_yml: Overrides = None, as_test: AsTest = False) -> None:
    """Say all that is wrong with an option file, without running it."""
    options = load_checked_options(option_file, is_train=not as_test, overrides=force_yml or ())
    typer.echo(f"{option_file}: ok, {options.name} ({options.network_g.type} x{options.scale})")


@options_app.command()
@guarded
def show(option_file: OptionFile, force_yml: Overrides = None, as_test: AsTest = False) -> None:
    """Print an option file with its bases merged, overrides applied and defaults filled in."""
    options = load_checked_options(option_file, is_train=not as_test, overrides=force_yml or ())
    typer.echo(options.to_yaml(), nl=False)


@options_app.command()
@guarded
def schema(
    output: Annotated[Path | None, typer.Option("--output", "-o", help="File to write; default: print it.")] = None,
) -> None:
    """Write the JSON schema of option files, for editors that complete and check YAML."""
    from hriusr.options.json_schema import option_file_schema

    text = json.dumps(option_file_schema(), indent=2) + "\n"
    if output is None:
        typer.echo(text, nl=False)
    else:
        output.parent.mkdir(parents=True, exist_ok=True)
        output.write_text(text, encoding="utf-8")
        typer.echo(f"wrote {output}")


def main() -> None:
    """Be the command `hriusr`."""
    app(prog_name="hriusr")


if __name__ == "__main__":
    sys.exit(main())
