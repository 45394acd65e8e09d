"""`hriusr prepare`: make training and test data out of pictures; each command may be stopped and run again."""

from collections.abc import Iterable
from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from hriusr.entry import guarded
from hriusr.errors import DataError

# name of the command -> what the set is called; the same names as in data/prepare_presets.py
PRESETS = {
    "set5": "Set5",
    "set14": "Set14",
    "bsd100": "BSD100",
    "urban100": "Urban100",
    "manga109": "Manga109",
    "div2k": "DIV2K, with sub-images,",
    "df2k": "DF2K (DIV2K + Flickr2K), with sub-images,",
}

prepare_app = typer.Typer(
    help="Make training and test data: low-resolution pictures, sub-images, databases, lists. Safe to stop and rerun.",
    no_args_is_help=True,
)

Folder = Annotated[Path, typer.Argument(metavar="FOLDER", show_default=False, help="Folder of pictures.")]
Target = Annotated[Path, typer.Argument(metavar="TARGET", show_default=False, help="Where the results go.")]
Root = Annotated[Path, typer.Option(help="Folder of all datasets.")]
Scales = Annotated[
    list[int] | None, typer.Option("--scale", "-s", min=2, help="How much smaller LR is; may be repeated.")
]
Processes = Annotated[int | None, typer.Option(min=1, help="How many work at once; default: one a CPU core.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Make everything again.")]
Template = Annotated[
    str, typer.Option(help="What to strip from the names, e.g. '{}x2' for LR: both databases need the same keys.")
]


class Layout(str, Enum):
    """Names of the folders of a benchmark set."""

    edsr = "edsr"
    hat = "hat"


@prepare_app.command()
@guarded
def bicubic(
    hr_folder: Folder,
    lr_folder: Target,
    scale: Annotated[int, typer.Option("--scale", "-s", min=1, help="How much smaller, 2, 3, 4 ...")],
    template: Annotated[str | None, typer.Option(help="LR name from an HR name; default '{}x<scale>'.")] = None,
    cropped_hr: Annotated[
        Path | None, typer.Option(help="Also write HR, cropped to multiples of the scale, into this folder.")
    ] = None,
    processes: Processes = None,
    overwrite: Overwrite = False,
) -> None:
    """Make low-resolution pictures as MATLAB's imresize does, exact to the bit."""
    from hriusr.data.prepare import prepare_bicubic

    result = prepare_bicubic(
        hr_folder,
        lr_folder,
        scale=scale,
        filename_tmpl=template,
        cropped_hr_folder=cropped_hr,
        num_processes=processes,
        overwrite=overwrite,
    )
    typer.echo(str(result))


@prepare_app.command("sub-images")
@guarded
def subimages(
    folders: Annotated[
        list[Path], typer.Argument(metavar="FOLDER...", show_default=False, help="Folders of pictures.")
    ],
    target: Annotated[Path, typer.Option("--target", "-o", help="Where the squares go.")],
    crop_size: Annotated[
        int, typer.Option(min=1, help="Side of a square, pixels; for LR: divided by the scale.")
    ] = 480,
    step: Annotated[
        int, typer.Option(min=1, help="Distance of neighbours, pixels; for LR: divided by the scale.")
    ] = 240,
    threshold: Annotated[int, typer.Option(min=0, help="A border of at most this many pixels is left out.")] = 0,
    multiple: Annotated[int, typer.Option(min=1, help="First crop each picture to a multiple of this.")] = 1,
    template: Template = "{}",
    processes: Processes = None,
    overwrite: Overwrite = False,
) -> None:
    """Cut large pictures into overlapping squares, which a training run reads faster."""
    from hriusr.data.prepare import prepare_subimages

    result = prepare_subimages(
        folders,
        target,
        crop_size=crop_size,
        step=step,
        threshold=threshold,
        multiple=multiple,
        filename_tmpl=template,
        num_processes=processes,
        overwrite=overwrite,
    )
    typer.echo(str(result))


@prepare_app.command()
@guarded
def lmdb(
    folder: Folder,
    target: Target,
    compression: Annotated[int, typer.Option(min=0, max=9, help="PNG level; low ones are decoded faster.")] = 1,
    template: Template = "{}",
    processes: Processes = None,
    overwrite: Overwrite = False,
) -> None:
    """Put a folder of pictures into a database X.lmdb, as BasicSR lays it out."""
    from hriusr.data.prepare import prepare_lmdb

    result = prepare_lmdb(
        folder,
        target,
        compression=compression,
        filename_tmpl=template,
        num_processes=processes,
        overwrite=overwrite,
    )
    typer.echo(str(result))


@prepare_app.command("meta-info")
@guarded
def meta_info(
    folder: Folder,
    target: Target,
    recursive: Annotated[bool, typer.Option("--recursive", help="Also the folders below.")] = False,
) -> None:
    """List the pictures of a folder in a text file, one a line, for meta_info_file."""
    from hriusr.data.prepare import prepare_meta_info

    typer.echo(str(prepare_meta_info(folder, target, recursive=recursive)))


@prepare_app.command()
@guarded
def demo(
    root: Annotated[Path, typer.Option(help="The dataset's folder.")] = Path("datasets/demo"),
    scale: Scales = None,
    processes: Processes = None,
    overwrite: Overwrite = False,
) -> None:
    """Make a small real dataset without a download, from the photographs that ship with scikit-image."""
    from hriusr.data.prepare_demo import prepare_demo

    _say_results(prepare_demo(root, scales=scale or (2,), num_processes=processes, overwrite=overwrite))


@prepare_app.command()
@guarded
def verify(
    name: Annotated[str, typer.Argument(metavar="NAME", show_default=False, help="set5 or urban100.")],
    root: Root = Path("datasets"),
    processes: Processes = None,
) -> None:
    """Compare the pictures of a benchmark set, pixel by pixel, with those that published numbers were measured on."""
    from hriusr.data.prepare_presets import verify_preset

    verifications = verify_preset(name, root, num_processes=processes)
    _say_results(verifications)
    if not all(verification.is_exact for verification in verifications):
        raise DataError(f"{name} differs from the published pictures, see above")


def _add_preset(name: str, description: str) -> None:
    """Add `hriusr prepare <name>`."""

    @guarded
    def prepare(
        root: Root = Path("datasets"),
        scale: Scales = None,
        layout: Annotated[
            Layout, typer.Option(help="Of benchmark sets; hat: the folders that HAT's option files name.")
        ] = Layout.edsr,
        lmdb: Annotated[bool, typer.Option("--lmdb", help="Of DIV2K and DF2K: also databases.")] = False,
        processes: Processes = None,
        overwrite: Overwrite = False,
    ) -> None:
        from hriusr.data.prepare_presets import prepare_preset

        results = prepare_preset(
            name,
            root,
            scales=scale or (2, 3, 4),
            layout=layout.value,
            lmdb=lmdb,
            num_processes=processes,
            overwrite=overwrite,
        )
        _say_results(results)

    prepare_app.command(name, help=description)(prepare)


for _name, _title in PRESETS.items():
    _add_preset(_name, f"Make everything for {_title} from its downloaded pictures; see datasets/README.md.")


def _say_results(results: Iterable[object]) -> None:
    for result in results:
        typer.echo(str(result))
