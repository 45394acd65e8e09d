"""From an option file and a command line to checked Options, or to one error that lists all that is wrong.

    file + bases -> overrides -> foreign and unset keys out -> schema -> signatures -> contradictions -> this machine

Everything found on the way is collected in Problems and said at once.
"""

import copy
import logging
import secrets
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from hriusr.errors import OptionsError
from hriusr.options.checks import check_options
from hriusr.options.components import BuildNetwork, Components, NetworkSignature, check_components, check_network
from hriusr.options.degradation_checks import check_degradations
from hriusr.options.foreign import drop_keys_of_refused_datasets, take_out_foreign_keys
from hriusr.options.inheritance import read_with_bases
from hriusr.options.overrides import apply_overrides
from hriusr.options.problems import Problems, note_validation_errors
from hriusr.options.run_context import RunContext, rank_and_world_size
from hriusr.options.schema import Options, ValOptions
from hriusr.options.unset import drop_unset

logger = logging.getLogger(__name__)

_DEBUG_VALIDATION_FREQUENCY = 8  # BasicSR's, iterations
_MOST_ROUNDS = 5  # a section without a needed key is taken out of one that then misses it, and so on up to the top
_LARGEST_DRAWN_SEED = 10000  # BasicSR's


def load_options(
    path: str | Path,
    *,
    is_train: bool,
    overrides: Iterable[str] = (),
    network_signature: NetworkSignature | None = None,
    known_networks: Callable[[], Iterable[str]] | None = None,
    build_network: BuildNetwork | None = None,
    components: Components | None = None,
    debug: bool = False,
    auto_resume: bool = False,
    launcher: str = "none",
) -> Options:
    """Read and check an option file of hriusr, BasicSR or HAT.

    Args:
        path: the YAML file.
        is_train: for train.py; else for test.py, which looks neither at the section train nor at the training set.
        overrides: --force_yml's "section:key=value".
        network_signature: type name -> constructor's signature, None where unknown; without it no check of network_g.
        known_networks: names for "did you mean".
        build_network: type and arguments -> network, or OptionsError; without it constructors do not check values.
        components: "model", "dataset", "loss", "metric" -> name -> signature; a kind left out is not checked.
        debug: BasicSR's --debug: name starts with debug_, every 8 iterations validation and checkpoint, no TensorBoard.
        auto_resume: go on from the newest training state, whatever its options.
        launcher: none, pytorch or slurm; rank and number of processes come from its environment variables.

    Returns:
        Options with `run` filled in; what is odd is in `run.warnings` and was logged by process 0.

    Raises:
        OptionsError: everything that is wrong, each with file and line.
    """
    path = Path(path)
    rank, world_size = rank_and_world_size(launcher)
    document = read_with_bases(path)
    apply_overrides(document, overrides)
    take_out_foreign_keys(document)
    drop_keys_of_refused_datasets(document)
    drop_unset(document.values, Options)

    problems = Problems(document, warnings=list(document.warnings))
    options = _validate(document.values, problems)
    if options is not None:
        _find_meta_info(options, problems)
        check_degradations(options, problems, is_train=is_train)
        if network_signature is not None:
            check_network(options, problems, network_signature, known_networks, build_network, is_train=is_train)
        check_components(options, problems, components or {}, is_train=is_train)
        check_options(options, problems, is_train=is_train)
    problems.raise_errors(path)

    assert options is not None  # whatever keeps the schema from building options is noted as an error
    options._run = RunContext(
        is_train=is_train,
        option_file=path,
        auto_resume=auto_resume,
        launcher=launcher,
        rank=rank,
        world_size=world_size,
    )
    _expand_home(options)
    _settle_seed(options)
    _settle_gpus(options, problems)
    _warn_of_prefetching(options, problems)
    _settle_validation(options, is_train)
    _settle_debug(options, debug)
    options._run = replace(options._run, warnings=tuple(problems.warnings))
    if rank == 0:
        for warning in problems.warnings:
            logger.warning("%s", warning)
    return options


def _validate(values: dict[str, Any], problems: Problems) -> Options | None:
    """Build options; where values are at fault, from what is left without them, so that the other checks still run."""
    values = copy.deepcopy(values)
    for _ in range(_MOST_ROUNDS):
        try:
            return Options.model_validate(values)
        except ValidationError as error:
            note_validation_errors(error, values, Options, problems)
    return None


def _find_meta_info(options: Options, problems: Problems) -> None:
    """Look for BasicSR's and HAT's own lists (hat/data/meta_info/x.txt) where users of this project keep them."""
    for entry, dataset in options.datasets.items():
        if dataset.meta_info_file is None or Path(dataset.meta_info_file).expanduser().is_file():
            continue
        name, folders = Path(dataset.meta_info_file).name, [Path("datasets")]
        for root in filter(None, (dataset.dataroot_gt, dataset.dataroot_lq)):
            folders += Path(root).expanduser().absolute().parents[:3]  # datasets/DF2K/meta_info, for instance
        found = next((file for folder in folders if (file := folder / "meta_info" / name).is_file()), None)
        if found is not None:
            path = ("datasets", entry, "meta_info_file")
            problems.warn(path, f"{dataset.meta_info_file} does not exist; took {found}")
            dataset.meta_info_file = str(found)


def _expand_home(options: Options) -> None:
    """Replace a leading ~ in paths by the home folder, as BasicSR does."""
    for section, keys in [
        (options.path, ("pretrain_network_g", "pretrain_network_d", "resume_state")),
        *((dataset, ("dataroot_gt", "dataroot_lq", "meta_info_file")) for dataset in options.datasets.values()),
    ]:
        for key in keys:
            value = getattr(section, key)
            if value is not None and value.startswith("~"):
                setattr(section, key, str(Path(value).expanduser()))


def _settle_seed(options: Options) -> None:
    if options.manual_seed is not None:
        return
    if options.run.world_size > 1:
        raise OptionsError("manual_seed: ~ draws a seed for each process; with several of them give a number")
    options._run = replace(options._run, is_seed_drawn=True)
    options.manual_seed = 1 + secrets.randbelow(_LARGEST_DRAWN_SEED)
    logger.info("manual_seed drawn: %d", options.manual_seed)


def _settle_gpus(options: Options, problems: Problems) -> None:
    """Turn num_gpu into a number that this machine has."""
    if options.num_gpu == 0:
        return
    import torch  # here, so that reading options for the CPU does not wait for it

    available = torch.cuda.device_count()
    if options.num_gpu == "auto":
        options.num_gpu = available
    elif options.num_gpu > available:
        found = f"uses the {available} that can be seen" if available else "runs on the CPU, no CUDA device can be seen"
        problems.warn(("num_gpu",), f"num_gpu (={options.num_gpu}): {found}")
        options.num_gpu = available


def _warn_of_prefetching(options: Options, problems: Problems) -> None:
    train_set = options.datasets.get("train")
    if options.run.is_train and options.num_gpu == 0 and train_set and train_set.prefetch_mode == "cuda":
        path = ("datasets", "train", "prefetch_mode")
        problems.warn(path, "datasets.train.prefetch_mode (='cuda') is ignored: the run is on the CPU")


def _settle_validation(options: Options, is_train: bool) -> None:
    if options.val is None and not is_train:
        options.val = ValOptions()
    if options.val is not None and options.val.save_img is None:
        options.val.save_img = not is_train


def _settle_debug(options: Options, debug: bool) -> None:
    """BasicSR's debug mode, entered by --debug or by a name with "debug" in it."""
    if debug and not options.name.startswith("debug"):
        options.name = f"debug_{options.name}"
    if "debug" not in options.name or not options.run.is_train:
        return
    if options.val is not None:
        options.val.val_freq = _DEBUG_VALIDATION_FREQUENCY
    options.logger.print_freq = 1
    options.logger.save_checkpoint_freq = _DEBUG_VALIDATION_FREQUENCY
    options.logger.use_tb_logger = False
