"""`hriusr upscale`: pictures, folders of pictures and videos through a network."""

import json
import math
import sys
from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from hriusr.archs.pretrained import DEFAULT, default_weights
from hriusr.cli.arguments import Precision, Settings, parse_settings
from hriusr.entry import guarded
from hriusr.errors import HriusrError, OptionsError, ToldByAnotherError


class Backend(str, Enum):
    """What computes."""

    torch = "torch"
    onnx = "onnx"


_JPEG_QUALITY = 95
_TILES, _SIZE, _FILES, _NETWORK = "Tiles and speed", "Size of the results", "Files", "Network"


@guarded
def upscale(
    pictures: Annotated[
        list[str],
        typer.Argument(metavar="PICTURE_OR_FOLDER...", show_default=False, help="Files, folders, 'patterns*.png'."),
    ],
    weights: Annotated[
        list[str] | None,
        typer.Option(
            "--weights",
            "--model",
            "-w",
            "-m",
            help="Network file: .pth or .safetensors, ours, or SwinIR's, HAT's, Swin2SR's, Real-ESRGAN's x4; or a name "
            f"of those that come along. Given several times, results are averaged. Default: {DEFAULT}, or "
            f"{default_weights(4)} for a --scale above 2.",
            rich_help_panel=_NETWORK,
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            help="File or folder; default: <name>_x<scale> beside the input.",
            rich_help_panel=_FILES,
        ),
    ] = None,
    scale: Annotated[
        float | None,
        typer.Option(help="Any factor; default: the network's. Resampled after it.", rich_help_panel=_SIZE),
    ] = None,
    width: Annotated[int | None, typer.Option(help="Width of results, pixels.", rich_help_panel=_SIZE)] = None,
    height: Annotated[int | None, typer.Option(help="Height of results, pixels.", rich_help_panel=_SIZE)] = None,
    self_ensemble: Annotated[
        bool,
        typer.Option(
            "--self-ensemble", help="Mean over 8 flips and turns: better, 8x as long.", rich_help_panel=_NETWORK
        ),
    ] = False,
    tile_size: Annotated[
        int | None,
        typer.Option(
            min=0,
            help="Side of a tile, low-resolution pixels; 0: none; default: by free memory.",
            rich_help_panel=_TILES,
        ),
    ] = None,
    tile_overlap: Annotated[
        int | None,
        typer.Option(
            min=0, help="Pixels read around a tile; default: two windows of the network.", rich_help_panel=_TILES
        ),
    ] = None,
    exact: Annotated[
        bool,
        typer.Option(
            "--exact/--fast",
            help="exact: the whole picture's result, to rounding; reads as far around tiles as the network looks.",
            rich_help_panel=_TILES,
        ),
    ] = False,
    check_seams: Annotated[
        bool,
        typer.Option(
            "--check-seams", help="Say how far results are from those of larger tiles.", rich_help_panel=_TILES
        ),
    ] = False,
    backend: Annotated[
        Backend,
        typer.Option(help="onnx: onnxruntime, by a file that is exported once and kept.", rich_help_panel=_NETWORK),
    ] = Backend.torch,
    compile_network: Annotated[
        bool,
        typer.Option(
            "--compile", help="torch.compile: minutes at first, for many tiles of one size.", rich_help_panel=_TILES
        ),
    ] = False,
    batch_size: Annotated[
        int | None, typer.Option(min=1, help="Tiles at once; default: by free memory.", rich_help_panel=_TILES)
    ] = None,
    precision: Annotated[
        Precision, typer.Option(help="bf16 and fp16 are faster on GPUs.", rich_help_panel=_TILES)
    ] = Precision.fp32,
    device: Annotated[
        str | None,
        typer.Option(help="cpu, cuda, cuda:1 ...; default: the GPU if there is one.", rich_help_panel=_TILES),
    ] = None,
    workers: Annotated[
        int, typer.Option(min=1, help="Processes that share tiles or files.", rich_help_panel=_TILES)
    ] = 1,
    suffix: Annotated[str | None, typer.Option(help="Put behind each result's name.", rich_help_panel=_FILES)] = None,
    extension: Annotated[
        str | None,
        typer.Option(help="png, jpg, tif ...; default: the input's if lossless, else png.", rich_help_panel=_FILES),
    ] = None,
    recursive: Annotated[bool, typer.Option(help="Also the folders below.", rich_help_panel=_FILES)] = True,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace results that exist.", rich_help_panel=_FILES)
    ] = False,
    jpeg_quality: Annotated[
        int, typer.Option(min=0, max=100, help="Of results in JPEG.", rich_help_panel=_FILES)
    ] = _JPEG_QUALITY,
    max_pixels: Annotated[
        int | None,
        typer.Option(
            min=0, help="Largest input, pixels of all frames; 0: any. Default: 268 million.", rich_help_panel=_FILES
        ),
    ] = None,
    settings: Settings = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print what became of each picture as JSON.")] = False,
) -> None:
    """Enlarge pictures, folders of pictures and videos; depth, grey, transparency, profile and frames are kept."""
    from rich.console import Console

    from hriusr.pictures.source import MAX_PIXELS
    from hriusr.pictures.video_formats import VIDEO_TARGETS
    from hriusr.upscaling.output_size import OutputSize
    from hriusr.upscaling.picture_upscaler import TileOptions
    from hriusr.upscaling.upscale import upscale_path
    from hriusr.upscaling.workers import joined_processes

    if workers > 1 and device not in (None, "cpu"):
        raise OptionsError(f"workers (={workers}) share a CPU's cores; for several GPUs use torchrun, without device")
    if scale is not None and not math.isfinite(scale):
        raise OptionsError(f"scale (={scale}) must be a number, such as 3.7")
    names: list[str | Path] = [*(weights or [default_weights(scale)])]
    given = parse_settings(settings)
    if backend is Backend.onnx:
        from hriusr.exporting.cached import exported_onnx

        for name in names if given else ():
            if Path(name).suffix == ".onnx":
                raise OptionsError(f"{name} is fixed: leave out settings, or name its weights")
        names, given = [exported_onnx(name, given) for name in names], {}
    console = Console(stderr=True)
    with joined_processes(workers, sys.argv[1:]) as (sharing, local_rank), sharing.speaking_once():
        report = upscale_path(
            pictures,
            output,
            weights=names,
            network_settings=given,
            self_ensemble=self_ensemble,
            compiles=compile_network,
            size=OutputSize(scale, width, height),
            tiles=TileOptions(precision.value, tile_size, tile_overlap, batch_size, exact),
            checks_seams=check_seams,
            device="cpu" if workers > 1 else device,
            suffix=suffix,
            extension=extension,
            recursive=recursive,
            overwrite=overwrite,
            jpeg_quality=jpeg_quality,
            max_pixels=(max_pixels or None) if max_pixels is not None else MAX_PIXELS,
            console=console,
            sharing=sharing,
            local_rank=local_rank,
        )
    if sharing.rank != 0:
        if report.failures:
            raise ToldByAnotherError("process 0 says it")
        return
    targets = [outcome.target for outcome in report.outcomes]
    unused = []
    if suffix and targets == [output]:
        unused.append(f"suffix (={suffix}) has no effect: the output {output} is the result's whole name")
    kinds = {target.suffix.lower().removeprefix(".") for target in targets}
    if extension and kinds and extension.lower().removeprefix(".") not in kinds:
        unused.append(f"extension (={extension}) has no effect: results are {', '.join(sorted(kinds))}")
    if check_seams and any(target.suffix.lower() in VIDEO_TARGETS for target in targets):
        unused.append("check_seams has no effect on videos")
    if max_pixels and any(target.suffix.lower() in VIDEO_TARGETS for target in targets):
        unused.append(f"max_pixels (={max_pixels}) has no effect on videos")
    if jpeg_quality != _JPEG_QUALITY and kinds and not kinds & {"jpg", "jpeg"}:
        unused.append(f"jpeg_quality (={jpeg_quality}) has no effect: results are {', '.join(sorted(kinds))}")
    for note in unused:
        console.print(f"note: {note}", soft_wrap=True, highlight=False, markup=False)
    report.notes += unused
    if as_json:
        typer.echo(json.dumps(report.as_dict(), indent=2))
    if report.failures:
        raise HriusrError(f"{len(report.failures)} of {len(report.outcomes)} picture(s) failed, see above")
