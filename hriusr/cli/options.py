"""`hriusr options`: look at option files without running them."""

import json
from pathlib import Path
from typing import Annotated

import typer

from hriusr.cli.arguments import OptionFile, OptionFileCommand, Overrides
from hriusr.entry import guarded, load_checked_options

options_app = typer.Typer(help="Look at option files without running them.", no_args_is_help=True)

AsTest = Annotated[bool, typer.Option("--test", help="Read it as test.py does, not as train.py.")]


@options_app.command(cls=OptionFileCommand)
@guarded
def check(option_file: OptionFile, force_yml: Overrides = None, as_test: AsTest = False) -> None:
    """Say all that is wrong with an option file, without running it."""
    options = load_checked_options(option_file, is_train=not as_test, overrides=force_yml or ())
    typer.echo(f"{option_file}: ok, {options.name} ({options.network_g.type} x{options.scale})")


@options_app.command(cls=OptionFileCommand)
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
    from hriusr.atomic_file import write_atomically
    from hriusr.options.json_schema import option_file_schema

    text = json.dumps(option_file_schema(), indent=2) + "\n"
    if output is None:
        typer.echo(text, nl=False)
    else:
        write_atomically(output, text.encode())
        typer.echo(f"wrote {output}")
