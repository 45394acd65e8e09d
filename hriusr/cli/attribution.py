"""`hriusr lam` and `hriusr erf`: where a network looks."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from hriusr.cli.arguments import Settings, parse_settings
from hriusr.cli.progress import StepProgress
from hriusr.entry import guarded
from hriusr.errors import HriusrError, OptionsError

Weights = Annotated[
    Path, typer.Option("--weights", "-w", help="Network file: .pth or .safetensors, ours or a published one.")
]
Device = Annotated[str | None, typer.Option(help="cpu, cuda, cuda:1 ...; default: the GPU if there is one.")]
FromHr = Annotated[
    bool, typer.Option("--hr", help="The pictures are high resolution: shrink them first (MATLAB's bicubic).")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print all numbers as JSON instead of a table.")]


class WindowCommand(TyperCommand):
    """A command whose option --window takes two or three numbers, and may be repeated."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Join the numbers behind each --window to one word, which is what an option that repeats can take."""
        joined: list[str] = []
        room = 0  # numbers that the last --window still takes
        for word in args:
            if room == 3 and word.startswith("-") and not re.match(r"-\d", word):
                ctx.fail("--window needs X Y or X Y SIZE behind it, as in --window 200 120 16")
            if room and re.fullmatch(r"[+-]?\d+", word):
                joined[-1] = f"{joined[-1]} {word}" if room < 3 else word
                room -= 1
            elif room == 3:  # another form, such as 10,20: as it is
                joined[-1] = word
                room = 0
            else:
                room = 3 if word == "--window" else 0
                joined += [word, ""] if room else [word]
        return super().parse_args(ctx, joined)


@guarded
def lam(
    pictures: Annotated[
        list[Path] | None,
        typer.Argument(metavar="[PICTURE_OR_FOLDER]...", show_default=False, help="Low resolution, unless --hr."),
    ] = None,
    *,
    weights: Weights,
    window: Annotated[
        list[str] | None,
        typer.Option(metavar="X Y [SIZE]", help="Top left corner and side, pixels of the result; may be repeated."),
    ] = None,
    size: Annotated[int, typer.Option(min=1, help="Side of windows without a SIZE, pixels of the result.")] = 16,
    places: Annotated[
        Path | None, typer.Option("--list", help="Text file with lines PICTURE [X Y [SIZE]]; more pictures.")
    ] = None,
    hr: FromHr = False,
    crop: Annotated[
        int, typer.Option(min=0, help="Side of what the network is shown, low-resolution pixels; 0: whole pictures.")
    ] = 64,
    steps: Annotated[int, typer.Option(min=1, help="Steps of the path from blurred to sharp.")] = 50,
    sigma: Annotated[float, typer.Option(min=1e-3, max=1e3, help="Blur where the path starts, pixels.")] = 1.2,
    kernel_size: Annotated[int, typer.Option(min=3, help="Side of the blur's kernel, pixels, odd.")] = 9,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Folder; default: results/lam/<name of the weights>.")
    ] = None,
    device: Device = None,
    settings: Settings = None,
    as_json: AsJson = False,
) -> None:
    """Show which pixels a network used for a window (by default the centre) of its result: LAM and diffusion index.

    Compare diffusion indices of one crop, or of pictures of one size, only.
    """
    from hriusr.analysis.attribution import PathSettings
    from hriusr.analysis.attribution_run import explain_places, places_of, read_places
    from hriusr.analysis.subject import load_upscaler

    if kernel_size % 2 == 0:
        raise OptionsError(f"--kernel-size {kernel_size}: must be odd, for instance {kernel_size + 1}")
    wanted = places_of(pictures or [], [_parse_window(words) for words in window or ()], size)
    wanted += read_places(places, size) if places else []
    if not wanted:
        raise OptionsError("no picture: name one, or a --list of them")
    missing = [str(place.picture) for place in wanted if not place.picture.exists()]
    if len(missing) == len(wanted):  # before seconds of loading
        raise HriusrError(f"{missing[0]} does not exist: check the path")
    upscaler, about = load_upscaler(weights, device, parse_settings(settings))
    with StepProgress() as progress:
        report = explain_places(
            upscaler,
            wanted,
            output or Path("results", "lam", weights.stem),
            crop=crop or None,
            is_hr=hr,
            settings=PathSettings(sigma, steps, kernel_size),
            about=about,
            progress=progress.show,
        )
    for note in report.notes:
        typer.echo(f"note: {note}", err=True)
    for entry in report.failed:
        typer.echo(f"failed: {entry['picture']}: {entry['reason']}", err=True)
    typer.echo(json.dumps(report.as_dict(), indent=2) if as_json else _lam_text(report.as_dict()))
    if report.failed:
        raise HriusrError(f"{len(report.failed)} of {len(wanted)} window(s) failed, see above")


@guarded
def erf(
    pictures: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="[PICTURE_OR_FOLDER]...", show_default=False, help="Low resolution, unless --hr. Default: noise."
        ),
    ] = None,
    *,
    weights: Weights,
    count: Annotated[int, typer.Option(min=1, help="Random crops, from the pictures in turn.")] = 16,
    size: Annotated[int, typer.Option(min=1, help="Side of a crop, low-resolution pixels.")] = 64,
    seed: Annotated[int, typer.Option(min=0, help="Other seeds, other crops.")] = 0,
    hr: FromHr = False,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Picture; default: results/erf/<name of the weights>.png.")
    ] = None,
    device: Device = None,
    settings: Settings = None,
    as_json: AsJson = False,
) -> None:
    """Show how far a network looks: mean gradient of the centre pixel, its effective receptive field."""
    from hriusr.analysis.attribution_run import places_of
    from hriusr.analysis.receptive_field_run import measure_field
    from hriusr.analysis.subject import load_upscaler

    paths = [place.picture for place in places_of(pictures or [], [])]
    upscaler, about = load_upscaler(weights, device, parse_settings(settings))
    target = output or Path("results", "erf", f"{weights.stem}.png")
    with StepProgress() as progress:
        numbers = measure_field(
            upscaler, paths, target, count=count, size=size, seed=seed, is_hr=hr, about=about, progress=progress.show
        )
    typer.echo(json.dumps(numbers, indent=2) if as_json else _erf_text(numbers, target))


def _parse_window(words: str) -> tuple[int, ...]:
    numbers = re.split(r"[ ,]+", words.strip())
    if len(numbers) not in (2, 3) or not all(re.fullmatch(r"[+-]?\d+", number) for number in numbers):
        raise OptionsError(f"--window {words}: must be X Y or X Y SIZE, whole numbers, as in --window 200 120 16")
    return tuple(map(int, numbers))


def _lam_text(numbers: Mapping[str, Any]) -> str:
    lines = []
    for entry in numbers["positions"]:
        window, held = entry["window"], entry["reach"]
        sides = ", ".join(f"{part} % {at['num_columns']}x{at['num_rows']}" for part, at in held.items())
        lines.append(
            f"{entry['picture']} at {window['left']} {window['top']} {window['size']}: "
            f"DI {entry['diffusion_index']:.2f}, Gini {entry['gini']:.4f}; columns x rows that hold {sides}; "
            f"completeness error {100 * entry['completeness']['relative_error']:.2f} %; {entry['file']}"
        )
    mean = numbers["mean"]
    if mean["num_positions"] > 1:
        lines.append(
            f"mean DI {mean['diffusion_index']:.2f} (standard deviation {mean['standard_deviation']:.2f}) over "
            f"{mean['num_positions']} windows of {mean['num_pictures']} picture(s)"
        )
    return "\n".join(lines)


def _erf_text(numbers: Mapping[str, Any], target: Path) -> str:
    sides = ", ".join(f"{part} %: {side or 'more than the crop'}" for part, side in numbers["side"].items())
    touched = numbers["touched"]
    lines = [
        f"side of the square around the centre that holds {sides}",
        f"any gradient in {touched['num_columns']}x{touched['num_rows']} of {numbers['size']}x{numbers['size']} pixels",
        f"over {numbers['count']} crops; {target}",
    ]
    if numbers["is_cut_off"]:
        lines[1] += ", cut off by the crop: a larger --size may show more"
    return "\n".join(lines)
