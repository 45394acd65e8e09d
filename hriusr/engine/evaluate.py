"""Test a network: every picture of every test set, measured beside bicubic, saved if asked for, and reported.

Protocol: the result is rounded to 8 bits, crop_border pixels are cut off each side, PSNR and SSIM are taken on Y
(BT.601, not rounded) and on RGB; a set's value is the mean over its pictures.
"""

import logging
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table
from torch.utils.data import DataLoader

from hriusr.data.loader import build_val_loader, telling_of_dead_workers
from hriusr.engine.build import as_basicsr_dict, build_dataset, build_model, resolved_options
from hriusr.engine.distributed import joined_processes
from hriusr.engine.logging_setup import run_logging
from hriusr.engine.progress import picture_progress
from hriusr.engine.run_folder import archive_folder, make_folders, record_origin, time_stamp
from hriusr.engine.validation import in_dataset_order, validate
from hriusr.engine.versions import collect_versions
from hriusr.errors import DataError, OptionsError
from hriusr.metrics.measure import MetricOptions, check_metrics, default_metrics, with_both_colours
from hriusr.metrics.report import DatasetMean, PictureRow, dataset_means, format_value, write_report
from hriusr.models.sr_model import RestorationModel
from hriusr.options.basicsr_form import phase_of

if TYPE_CHECKING:
    from hriusr.options import Options

logger = logging.getLogger(__name__)


@telling_of_dead_workers()
def test(options: "Options | Mapping[str, Any]") -> list[DatasetMean]:
    """Test a network as the options say; writes results/<name>/.

    Args:
        options: of a test; or their dict in BasicSR's form.

    Returns:
        The means of each test set.

    Raises:
        OptionsError, DataError, WeightsError: before anything is written, where it can be seen then.
    """
    opt = as_basicsr_dict(options)
    with run_logging(opt.get("rank", 0)) as log, joined_processes(opt) as processes:
        metrics_opt = with_both_colours(check_metrics(opt["val"].get("metrics")) or default_metrics(opt["scale"]))
        loaders = _build_loaders(opt)
        if not opt["path"].get("pretrain_network_g"):
            logger.warning("path.pretrain_network_g is not given: an untrained network is tested")
        model = build_model(opt)

        folder = Path(opt["path"]["results_root"])
        processes.wait_for_all()  # none reads any more what process 0 is about to rename
        if processes.is_first:
            archive_folder(folder)
            make_folders(folder)
            log.write_to(folder / f"test_{opt['name']}_{time_stamp()}.log")
            run = getattr(options, "run", None)
            record_origin(folder, opt, run.option_file if run else None, resolved_options(options))
        processes.wait_for_all()

        start = time.perf_counter()
        rows: list[PictureRow] = []
        is_shown = opt["val"].get("pbar", True)
        for name, loader in loaders.items():
            with picture_progress(log.console, name, len(loader.dataset), is_shown=is_shown) as advance:
                share = validate(
                    model,
                    loader,
                    dataset_name=name,
                    metrics_opt=metrics_opt,
                    tile_opt=opt.get("tile"),
                    with_bicubic=True,
                    save_path=_saved_picture(opt, name) if opt["val"].get("save_img") else None,
                    on_picture=lambda number, *_: advance(number * processes.count),
                )
                rows += in_dataset_order(processes.gather(share))
        means = dataset_means(rows)
        if not processes.is_first:
            return means
        files = write_report(folder, rows, _protocol(opt, metrics_opt, model))
        for mean in means:
            logger.info("%s (%d pictures): %s", mean.dataset, mean.num_pictures, _in_words(mean))
        show_means(means, Console(file=sys.stdout))
        logger.info("%d pictures in %.1f s; report: %s", len(rows), time.perf_counter() - start, files[-1])
        if opt["val"].get("save_img"):
            logger.info("pictures: %s", opt["path"]["visualization"])
        _tell_what_is_missing(means)
    return means


def _tell_what_is_missing(means: list[DatasetMean]) -> None:
    """Say whose means leave pictures out.

    Raises:
        DataError: a metric could be measured on no picture of a test set; the report is there all the same.
    """
    failures = []
    for mean in means:
        counts = {label: mean.num_measured.get(label, 0) for label in mean.metrics}
        failed = [label for label, count in counts.items() if count == 0]
        if failed:
            failures.append(f"{mean.dataset}: no picture could be measured by {', '.join(failed)}")
        for label, count in counts.items():
            if 0 < count < mean.num_pictures:
                logger.warning("%s: %s is the mean of %d of %d pictures", mean.dataset, label, count, mean.num_pictures)
    if failures:
        raise DataError(f"{'; '.join(failures)}; the warnings above say why")


def show_means(means: list[DatasetMean], console: Console) -> None:
    """Print a table: a line a dataset, each metric beside bicubic's."""
    table = Table(title="mean over pictures (bicubic in brackets)")
    table.add_column("dataset")
    table.add_column("pictures", justify="right")
    labels = list(dict.fromkeys(label for mean in means for label in mean.metrics))
    for label in labels:
        table.add_column(label, justify="right")
    for mean in means:
        cells = []
        for label in labels:
            cell = format_value(label, mean.metrics[label]) if label in mean.metrics else ""
            cells.append(f"{cell} ({format_value(label, mean.bicubic[label])})" if label in mean.bicubic else cell)
        table.add_row(mean.dataset, str(mean.num_pictures), *cells)
    console.print(table)


def _build_loaders(opt: Mapping[str, Any]) -> dict[str, DataLoader]:
    """Build the test sets, in the order of their entries, as BasicSR does."""
    loaders: dict[str, DataLoader] = {}
    for entry, dataset_opt in sorted(opt["datasets"].items()):
        if dataset_opt.get("phase", phase_of(entry)) not in ("test", "val"):
            continue
        if dataset_opt["name"] in loaders:
            raise OptionsError(f"datasets.{entry}.name: two test sets are called {dataset_opt['name']!r}")
        loaders[dataset_opt["name"]] = build_val_loader(
            build_dataset(entry, dataset_opt), rank=opt.get("rank", 0), world_size=opt.get("world_size", 1)
        )
    if not loaders:
        raise OptionsError("datasets: no test set; name one as test_1")
    return loaders


def _saved_picture(opt: Mapping[str, Any], dataset_name: str) -> Any:
    folder, ending = Path(opt["path"]["visualization"], dataset_name), opt["val"].get("suffix") or opt["name"]
    return lambda image_name: folder / f"{image_name}_{ending}.png"


def _protocol(opt: Mapping[str, Any], metrics_opt: MetricOptions, model: RestorationModel) -> dict[str, Any]:
    """Say what the numbers depend on."""
    network = model.get_bare_model(model.net_g)
    return {
        "run": opt["name"],
        "network": opt["network_g"]["type"],
        "parameters": sum(parameter.numel() for parameter in network.parameters()),
        "weights": opt["path"].get("pretrain_network_g"),
        "weights_key": opt["path"].get("param_key_g", "params"),
        "scale": opt["scale"],
        "metrics": {label: dict(metric_opt) for label, metric_opt in metrics_opt.items()},
        "range": "results rounded to 8 bits; Y: BT.601 16..235, not rounded; SSIM: 11x11 Gaussian, sigma 1.5",
        "bicubic": "MATLAB's imresize of lq, rounded to 8 bits",
        "self_ensemble": False,
        "precision": model.precision.name,
        "tile": opt.get("tile"),
        "device": str(model.device),
        "versions": collect_versions(),
    }


def _in_words(mean: DatasetMean) -> str:
    words = []
    for label, value in mean.metrics.items():
        bicubic = f" (bicubic {format_value(label, mean.bicubic[label])})" if label in mean.bicubic else ""
        words.append(f"{label} {format_value(label, value)}{bicubic}")
    return ", ".join(words) or "no ground truth, nothing measured"
