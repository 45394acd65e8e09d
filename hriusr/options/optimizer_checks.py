"""Which keys each optimiser takes, and what of training cannot go with it."""

from hriusr.options.problems import Problems
from hriusr.options.train_schema import OptimizerOptions, TrainOptions

# keys beside type, lr, no_decay_norm_bias and lr_mult; a test compares them with the constructors
OPTIMIZER_KEYS = {
    "Adam": ("betas", "eps", "weight_decay", "amsgrad", "fused", "foreach"),
    "AdamW": ("betas", "eps", "weight_decay", "amsgrad", "fused", "foreach"),
    "Adamax": ("betas", "eps", "weight_decay", "foreach"),
    "SGD": ("momentum", "dampening", "weight_decay", "nesterov", "foreach"),
    "ASGD": ("weight_decay", "foreach"),
    "NAdam": ("betas", "eps", "weight_decay", "momentum_decay", "decoupled_weight_decay", "foreach"),
    "RAdam": ("betas", "eps", "weight_decay", "decoupled_weight_decay", "foreach"),
    "RMSprop": ("alpha", "eps", "weight_decay", "momentum", "centered", "foreach"),
    "Rprop": ("foreach",),
    "Adan": ("betas", "eps", "weight_decay", "no_prox", "foreach"),
    "Lion": ("betas", "weight_decay", "foreach"),
    "AdamWScheduleFree": ("betas", "eps", "weight_decay", "foreach"),
    "Muon": ("betas", "eps", "weight_decay", "momentum", "nesterov", "ns_steps", "fused", "foreach"),
}
_OF_ALL = {"type", "lr", "no_decay_norm_bias", "lr_mult"}


def check_optimizer(train: TrainOptions, problems: Problems) -> None:
    """Check the keys of optim_g and optim_d against their types, and what goes with them.

    Args:
        train: validated options.
        problems: where to note what is wrong.
    """
    for name in ("optim_g", "optim_d"):
        optimizer = getattr(train, name)
        if optimizer is not None:
            _check_keys(optimizer, name, problems)
            if optimizer.type == "AdamWScheduleFree":
                _check_schedule_free(train, name, problems)
    if not train.ema_decay and (train.ema_start or train.ema_warmup):
        key = "ema_start" if train.ema_start else "ema_warmup"
        problems.warn(("train", key), f"train.{key} has no effect: train.ema_decay is 0")
    if train.spike_factor is not None and train.spike_factor <= 1:
        problems.error(
            ("train", "spike_factor"), f"train.spike_factor (={train.spike_factor}) must be more than 1, as 10"
        )


def _check_keys(optimizer: OptimizerOptions, name: str, problems: Problems) -> None:
    path, taken = ("train", name), OPTIMIZER_KEYS[optimizer.type]
    for key in sorted(optimizer.model_fields_set - {*taken, *_OF_ALL}):
        if getattr(optimizer, key) is not None:
            problems.error(
                (*path, key), f"train.{name}.{key} is no option of {optimizer.type}; it takes {', '.join(taken)}"
            )
    num_betas = 3 if optimizer.type == "Adan" else 2
    if optimizer.betas is not None and len(optimizer.betas) != num_betas:
        problems.error(
            (*path, "betas"), f"train.{name}.betas (={optimizer.betas}): {optimizer.type} takes {num_betas} numbers"
        )
    if optimizer.no_decay_norm_bias and not optimizer.weight_decay and optimizer.type != "AdamW":
        problems.warn(
            (*path, "no_decay_norm_bias"), f"train.{name}.no_decay_norm_bias has no effect without weight_decay"
        )
    if optimizer.fused and optimizer.foreach:
        problems.error((*path, "foreach"), f"train.{name}: fused and foreach exclude each other")


def _check_schedule_free(train: TrainOptions, name: str, problems: Problems) -> None:
    optimizer = getattr(train, name)
    if train.ema_decay and name == "optim_g":
        problems.error(
            ("train", "ema_decay"),
            f"train.ema_decay (={train.ema_decay}): AdamWScheduleFree averages the weights itself; set it to 0",
        )
    if optimizer.betas and not optimizer.betas[0]:
        problems.error(
            ("train", name, "betas"),
            f"train.{name}.betas (={optimizer.betas}): AdamWScheduleFree needs a first one above 0, as 0.9",
        )
    if train.scheduler.type != "ConstantLR":
        problems.warn(
            ("train", "scheduler", "type"),
            f"train.scheduler.type: AdamWScheduleFree is made for a constant rate (ConstantLR), not "
            f"{train.scheduler.type}; warmup_iter is welcome",
        )
