"""The command `hriusr` and its list of commands.

Commands import what they need when they run, so that `hriusr --help` answers at once.
"""

from typing import Annotated

import typer

from hriusr.cli.arguments import (
    AutoResume,
    Debug,
    Launcher,
    LauncherOption,
    OptionFile,
    OptionFileCommand,
    Overrides,
)
from hriusr.cli.attribution import WindowCommand, erf, lam
from hriusr.cli.convert import convert
from hriusr.cli.degrade import degrade
from hriusr.cli.doctor import doctor
from hriusr.cli.export import export
from hriusr.cli.networks import list_networks, profile
from hriusr.cli.options import options_app
from hriusr.cli.prepare import prepare_app
from hriusr.cli.upscale import upscale
from hriusr.entry import guarded, run_option_file

app = typer.Typer(
    name="hriusr",
    help="Super-resolution with hyperbolic relative imprinting units: prepare data, train, test, upscale.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.add_typer(prepare_app, name="prepare")
app.add_typer(options_app, name="options")
app.command()(upscale)
app.command()(degrade)
app.command()(convert)
app.command()(export)
app.command(cls=OptionFileCommand)(doctor)
app.command("list")(list_networks)
app.command()(profile)
app.command(cls=WindowCommand)(lam)
app.command()(erf)


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


@app.command(cls=OptionFileCommand)
@guarded
def train(
    option_file: OptionFile,
    force_yml: Overrides = None,
    launcher: LauncherOption = Launcher.none,
    auto_resume: AutoResume = False,
    debug: Debug = False,
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


@app.command("test", cls=OptionFileCommand)
@guarded
def evaluate(
    option_file: OptionFile,
    force_yml: Overrides = None,
    launcher: LauncherOption = Launcher.none,
    auto_resume: AutoResume = False,
    debug: Debug = False,
) -> None:
    """Test a network as an option file says; same as python hriusr/test.py -opt FILE."""
    run_option_file(
        option_file,
        is_train=False,
        overrides=force_yml or (),
        launcher=launcher.value,
        auto_resume=auto_resume,
        debug=debug,
    )


def main() -> None:
    """Be the command `hriusr`."""
    app(prog_name="hriusr")
