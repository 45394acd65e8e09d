"""`hriusr doctor`: the audit before a long run."""

import json
from pathlib import Path
from typing import Annotated

import typer

from hriusr.cli.arguments import Overrides
from hriusr.entry import EXIT_MENDABLE, guarded, load_checked_options

_COLOURS = {"error": typer.colors.RED, "warning": typer.colors.YELLOW, "note": typer.colors.CYAN}


@guarded
def doctor(
    option_file: Annotated[
        Path | None, typer.Argument(metavar="FILE", show_default=False, help="Option file (YAML).")
    ] = None,
    opt: Annotated[
        Path | None, typer.Option("-opt", "--opt", metavar="FILE", help="The same, as train.py has it.")
    ] = None,
    force_yml: Overrides = None,
    against: Annotated[
        list[Path] | None,
        typer.Option(metavar="FOLDER", help="Pictures that must not be in the training set; may be repeated."),
    ] = None,
    full: Annotated[bool, typer.Option("--full", help="Look at every picture, not at a sample.")] = False,
    sample: Annotated[int, typer.Option(min=1, help="How many pictures of a dataset to look at.")] = 300,
    step: Annotated[bool, typer.Option(help="Train and validate one step, measure memory and speed.")] = True,
    processes: Annotated[
        int | None, typer.Option(min=1, help="How many read pictures; default: one a CPU core.")
    ] = None,
    as_test: Annotated[bool, typer.Option("--test", help="The file is of a test, not of a training.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print everything as JSON.")] = False,
) -> None:
    """Look for all that could spoil a run before it starts; writes nothing. Exit status 2: errors."""
    from hriusr.doctor.examine import Extent, examine
    from hriusr.doctor.words import in_words
    from hriusr.errors import HriusrError

    file = option_file or opt
    if file is None:
        raise HriusrError("no option file: hriusr doctor FILE")
    if option_file and opt:
        raise HriusrError(f"two option files, {option_file} and -opt {opt}: give one")
    extent = Extent(
        sample=None if full else sample, against=tuple(against or ()), with_step=step, num_processes=processes
    )
    report = examine(lambda: load_checked_options(file, is_train=not as_test, overrides=force_yml or ()), extent)
    if as_json:
        typer.echo(json.dumps(report.as_dict(), indent=2))
    else:
        for level, text in in_words(report):
            typer.secho(text, fg=_COLOURS.get(level))
    if not report.is_healthy:
        raise SystemExit(EXIT_MENDABLE)
