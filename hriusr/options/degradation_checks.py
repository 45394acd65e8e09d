"""Contradictions of GAN training and of degradations with the training step and the dataset that the options name."""

from typing import Any

from hriusr.options.degradation_schema import (
    AUXILIARY_MODEL,
    DEGRADING_DATASET,
    DEGRADING_MODELS,
    GAN_MODELS,
    DegradationOptions,
    KernelOptions,
)
from hriusr.options.problems import Problems, dotted
from hriusr.options.schema import Options
from hriusr.options.section import Section

_CROP_SIZE = 400  # default of crop_pad_size
_GAN_KEYS = (
    ("network_d",),
    ("path", "pretrain_network_d"),
    ("path", "param_key_d"),
    ("path", "strict_load_d"),
    ("train", "optim_d"),
    ("train", "gan_opt"),
    ("train", "net_d_iters"),
    ("train", "net_d_init_iters"),
)
_NEEDED_BY_GANS = (
    (("network_d",), "the discriminator, for example {type: UNetDiscriminatorSN}"),
    (("train", "optim_d"), "its optimiser, for example {type: Adam, lr: 1e-4, betas: [0.9, 0.99]}"),
    (("train", "gan_opt"), "its loss, for example {type: GANLoss, gan_type: vanilla, loss_weight: 0.1}"),
)
_FLAGS_OF_GANS = ("l1_gt_usm", "percep_gt_usm", "gan_gt_usm")
_OF_LQ = ("lq_noise", "lq_jpeg_quality")
_WITHOUT_PAIRS = (DEGRADING_DATASET, "SingleImageDataset")


def check_degradations(options: Options, problems: Problems, *, is_train: bool) -> None:
    """Check what belongs together; what has no effect is unset and said.

    Args:
        options: validated options.
        problems: where to note what is wrong.
        is_train: for train.py; of all this, test.py reads what is done to lq alone.
    """
    _check_lq(options, problems)
    if not is_train or options.train is None:
        return
    _check_auxiliary(options, problems)
    model, train_set = options.model_type, options.datasets.get("train")
    is_gan, is_degrading = model in GAN_MODELS, model in DEGRADING_MODELS
    if is_gan:
        for path, what in _NEEDED_BY_GANS:
            if _value(options, path) is None:
                problems.error(path, f"{dotted(path)} is missing: {model} needs {what}")
    else:
        _unset(options, _GAN_KEYS, problems, f"there is no discriminator in this training step, {model}")
    makes_lq = train_set is not None and train_set.type == DEGRADING_DATASET
    own_keys = [(name,) for name in DegradationOptions.model_fields]
    if not is_degrading:
        _unset(options, own_keys, problems, f"{model} does not degrade; {', '.join(DEGRADING_MODELS)} do")
        if makes_lq:
            problems.error(
                ("datasets", "train", "type"),
                f"datasets.train.type (={DEGRADING_DATASET}) has no lq, which {model} needs: "
                f"use one of {', '.join(DEGRADING_MODELS)}, or PairedImageDataset",
            )
    else:
        others = ("gt_usm",) if is_gan else _FLAGS_OF_GANS
        _unset(options, [(name,) for name in others], problems, f"{model} does not ask for it")
        _check_source_of_lq(options, makes_lq, problems)
    for entry, dataset in options.datasets.items():
        if dataset.type != DEGRADING_DATASET:
            paths = [("datasets", entry, name) for name in KernelOptions.model_fields]
            _unset(options, paths, problems, f"{dataset.type} does not blur, {DEGRADING_DATASET} does")
        else:
            _check_kernels(options, entry, problems)


def _check_lq(options: Options, problems: Problems) -> None:
    """Noise and JPEG: one of them, and only on pairs."""
    for entry, dataset in options.datasets.items():
        if dataset.type in _WITHOUT_PAIRS:
            paths = [("datasets", entry, key) for key in _OF_LQ]
            _unset(options, paths, problems, f"{dataset.type} has no pairs, PairedImageDataset does")
        elif None not in (dataset.lq_noise, dataset.lq_jpeg_quality):
            problems.error(
                ("datasets", entry, "lq_noise"),
                f"datasets.{entry} has lq_noise (={dataset.lq_noise:g}) and lq_jpeg_quality "
                f"(={dataset.lq_jpeg_quality}): keep one",
            )


def _check_auxiliary(options: Options, problems: Problems) -> None:
    """A loss on the auxiliary output needs the training step that has one, and lq as it was before compression."""
    if options.model_type != AUXILIARY_MODEL:
        reason = f"{options.model_type} has no auxiliary output, {AUXILIARY_MODEL} does"
        _unset(options, [("train", "aux_opt")], problems, reason)
        return
    if options.train.aux_opt is None:
        problems.error(
            ("train", "aux_opt"), f"train.aux_opt is missing: {AUXILIARY_MODEL} needs it, for example {{type: L1Loss}}"
        )
    train_set = options.datasets.get("train")
    if train_set is not None and train_set.lq_jpeg_quality is None:
        problems.error(
            ("datasets", "train", "lq_jpeg_quality"),
            f"datasets.train.lq_jpeg_quality is missing: {AUXILIARY_MODEL} compares with lq before compression",
        )


def _check_source_of_lq(options: Options, makes_lq: bool, problems: Problems) -> None:
    """Whether lq is made or read must agree with high_order_degradation."""
    train_set = options.datasets.get("train")
    if train_set is None:
        return
    wanted = options.high_order_degradation
    if wanted is not None and wanted != makes_lq:
        remedy = f"use {DEGRADING_DATASET}" if wanted else "use RealESRGANPairedDataset or PairedImageDataset"
        problems.error(
            ("high_order_degradation",),
            f"high_order_degradation (={str(wanted).lower()}) does not fit datasets.train.type (={train_set.type}): "
            f"{remedy}, or leave it out",
        )
    if not makes_lq:
        made = [(name,) for name in DegradationOptions.model_fields if name not in _FLAGS_OF_GANS]
        made.remove(("high_order_degradation",))
        _unset(options, made, problems, f"the lq of {train_set.type} is read, not made")
    elif options.gt_size is not None:
        if options.gt_size % options.scale:
            problems.error(("gt_size",), f"gt_size (={options.gt_size}) is no multiple of scale (={options.scale})")
        if train_set.gt_size is not None and train_set.gt_size != options.gt_size:
            problems.error(
                ("gt_size",),
                f"gt_size (={options.gt_size}) differs from datasets.train.gt_size (={train_set.gt_size}); "
                "keep one, or make them equal",
            )


def _check_kernels(options: Options, entry: str, problems: Problems) -> None:
    dataset, path = options.datasets[entry], ("datasets", entry)
    if dataset.dataroot_lq is not None or dataset.lq_on_the_fly is not None:
        key = "dataroot_lq" if dataset.dataroot_lq is not None else "lq_on_the_fly"
        problems.error(
            (*path, key), f"datasets.{entry}.{key} has no effect: {DEGRADING_DATASET} has no lq; leave it out"
        )
    if dataset.progressive:
        problems.error((*path, "progressive"), f"datasets.{entry}.progressive: {DEGRADING_DATASET} has one patch size")
    for suffix in ("", "2"):
        kinds, weights = getattr(dataset, f"kernel_list{suffix}"), getattr(dataset, f"kernel_prob{suffix}")
        count = 6 if kinds is None else len(kinds)
        if (weights is not None or kinds is not None) and len(weights or range(6)) != count:
            problems.error(
                (*path, f"kernel_prob{suffix}"),
                f"datasets.{entry}.kernel_prob{suffix} needs one number for each of the {count} kernel_list{suffix}",
            )
    sizes = [getattr(dataset, f"blur_kernel_size{suffix}") for suffix in ("", "2")]
    side = dataset.crop_pad_size or _CROP_SIZE
    gt_size = options.gt_size or dataset.gt_size or 0
    if side % options.scale or side < gt_size:
        problems.error(
            (*path, "crop_pad_size"),
            f"datasets.{entry}.crop_pad_size (={side}{'' if dataset.crop_pad_size else ', its default'}) must be a "
            f"multiple of scale (={options.scale}) and at least gt_size (={gt_size})",
        )
    if any(size is not None and size > side for size in sizes):
        problems.error((*path, "blur_kernel_size"), f"datasets.{entry}: a blur kernel is larger than crop_pad_size")


def _unset(options: Options, paths: Any, problems: Problems, reason: str) -> None:
    """Unset keys that have no effect, and say so in one line."""
    ignored = [path for path in paths if _value(options, path) is not None]
    for path in ignored:
        _set(options, path, None)
    if ignored:
        problems.warn(ignored[0], f"ignored {', '.join(map(dotted, ignored))}: {reason}")


def _value(options: Options, path: tuple[str, ...]) -> Any:
    value: Any = options
    for key in path:
        value = value[key] if isinstance(value, dict) else getattr(value, key)
    return value


def _set(options: Options, path: tuple[str, ...], value: Any) -> None:
    holder: Section | dict[str, Any] = _value(options, path[:-1])
    setattr(holder, path[-1], value)
