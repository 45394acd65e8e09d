"""Which keys each optimiser takes, and what of training cannot go with it."""

from hriusr.options.problems import Problems
from hriusr.options.train_schema import TrainOptions

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
    """Check optim_g's keys against its type, and what goes with it.

    Args:
        train: validated options.
        problems: where to note what is wrong.
    """
    optimizer, path = train.optim_g, ("train", "optim_g")
    taken = OPTIMIZER_KEYS[optimizer.type]
    for key in sorted(optimizer.model_fields_set - {*taken, *_OF_ALL}):
        if getattr(optimizer, key) is not None:
            problems.error(
                (*path, key), f"train.optim_g.{key} is no option of {optimizer.type}; it takes {', '.join(taken)}"
            )
    num_betas = 3 if optimizer.type == "Adan" else 2
    if optimizer.betas is not None and len(optimizer.betas) != num_betas:
        problems.error(
            (*path, "betas"), f"train.optim_g.betas (={optimizer.betas}): {optimizer.type} takes {num_betas} numbers"
        )
    if optimizer.no_decay_norm_bias and not optimizer.weight_decay and optimizer.type != "AdamW":
        problems.warn(
            (*path, "no_decay_norm_bias"), "train.optim_g.no_decay_norm_bias has no effect without weight_decay"
        )
    for key in ("optim_g", "optim_d"):
        each = getattr(train, key)
        if each is not None and each.fused and each.foreach:
            problems.error(("train", key, "foreach"), f"train.{key}: fused and foreach exclude each other")
    if optimizer.type == "AdamWScheduleFree":
        _check_schedule_free(train, problems)
    if not train.ema_decay and (train.ema_start or train.ema_warmup):
        key = "ema_start" if train.ema_start else "ema_warmup"
        problems.warn(("train", key), f"train.{key} has no effect: train.ema_decay is 0")
    if train.spike_factor is not None and train.spike_factor <= 1:
        problems.error(
            ("train", "spike_factor"), f"train.spike_factor (={train.spike_factor}) must be more than 1, as 10"
        )


def _check_schedule_free(train: TrainOptions, problems: Problems) -> None:
    if train.ema_decay:
        problems.error(
            ("train", "ema_decay"),
            f"train.ema_decay (={train.ema_decay}): AdamWScheduleFree averages the weights itself; set it to 0",
        )
    if train.optim_g.betas and not train.optim_g.betas[0]:
        problems.error(
            ("train", "optim_g", "betas"),
            f"train.optim_g.betas (={train.optim_g.betas}): AdamWScheduleFree needs a first one above 0, as 0.9",
        )
    if train.scheduler.type != "ConstantLR":
        problems.warn(
            ("train", "scheduler", "type"),
            f"train.scheduler.type: AdamWScheduleFree is made for a constant rate (ConstantLR), not "
            f"{train.scheduler.type}; warmup_iter is welcome",
        )
