"""What a training does when: losses, learning rate and what begins or ends at an iteration."""

from hriusr.options.optimizer_checks import check_optimizer
from hriusr.options.problems import Problems
from hriusr.options.train_schema import SchedulerOptions, TrainOptions

# a scheduler's type -> its keys, the needed ones first
_SCHEDULER_KEYS = {
    "MultiStepLR": (("milestones",), ("gamma", "restarts", "restart_weights")),
    "MultiStepRestartLR": (("milestones",), ("gamma", "restarts", "restart_weights")),
    "CosineAnnealingRestartLR": (("periods",), ("restart_weights", "eta_min")),
    "CosineAnnealingLR": ((), ("T_max", "eta_min")),
    "OneCycleLR": (
        (),
        ("total_steps", "pct_start", "div_factor", "final_div_factor", "anneal_strategy", "three_phase"),
    ),
    "LinearLR": (("end_factor",), ("start_factor", "total_iters")),
    "PolynomialLR": ((), ("total_iters", "power")),
    "ConstantLR": ((), ("factor", "total_iters")),
}
# names of the other losses, without l_
_NAMES_IN_LOG = {"pix", "percep", "style", "aux", "g_pix", "g_percep", "g_style", "g_gan", "d_real", "d_fake"}


def check_schedule(train: TrainOptions, problems: Problems) -> None:
    """Check losses, optimisers, schedule and iterations against each other.

    Args:
        train: validated options.
        problems: where to note what is wrong.
    """
    for name in set(train.losses or {}) & _NAMES_IN_LOG:
        problems.error(("train", "losses", name), f"train.losses.{name}: l_{name} is in the log already; rename it")
    if train.pixel_opt is None and train.perceptual_opt is None and not train.losses:
        problems.error(
            ("train",), "train has no loss that compares with gt: give pixel_opt, for example {type: L1Loss}"
        )
    _check_scheduler(train.scheduler, train.total_iter, problems)
    check_optimizer(train, problems)
    _check_iterations(train, problems)


def _check_iterations(train: TrainOptions, problems: Problems) -> None:
    total = f"total_iter (={train.total_iter})"
    if train.warmup_iter > train.total_iter:
        problems.error(("train", "warmup_iter"), f"train.warmup_iter (={train.warmup_iter}) is more than {total}")
    rests = {"net_d_init_iters": train.net_d_init_iters or 0, "net_d_iters": (train.net_d_iters or 1) - 1}
    for key, num_rests in rests.items():
        if num_rests >= train.total_iter:
            told = f"train.{key} (={getattr(train, key)}) leaves the generator no step of {total}"
            problems.error(("train", key), told)
    starts = {("train", "ema_start"): train.ema_start if train.ema_decay else 0}
    starts |= {("train", "losses", name, "start_iter"): loss.start_iter for name, loss in (train.losses or {}).items()}
    for path, start in starts.items():
        if start > train.total_iter:
            problems.warn(path, f"{'.'.join(path)} (={start}) reaches beyond train.{total}")


def _check_scheduler(scheduler: SchedulerOptions, total_iter: int, problems: Problems) -> None:
    path = ("train", "scheduler")
    needed, optional = _SCHEDULER_KEYS[scheduler.type]
    for key in needed:
        if getattr(scheduler, key) in (None, []):
            state = "is missing" if getattr(scheduler, key) is None else "is empty"
            problems.error((*path, key), f"train.scheduler.{key} {state}: {scheduler.type} needs it")
    for key in scheduler.model_fields_set - {"type", *needed, *optional}:
        if getattr(scheduler, key) is not None:
            problems.error((*path, key), f"train.scheduler.{key} is no option of {scheduler.type}")
    milestones = scheduler.milestones or []
    if sorted(milestones) != milestones:
        problems.warn((*path, "milestones"), f"train.scheduler.milestones (={milestones}) do not ascend")
    if milestones and max(milestones) >= total_iter:
        problems.warn(
            (*path, "milestones"),
            f"train.scheduler.milestones (={milestones}) reach beyond train.total_iter (={total_iter})",
        )
    if scheduler.type == "CosineAnnealingRestartLR" and scheduler.periods and sum(scheduler.periods) < total_iter:
        problems.error(
            (*path, "periods"),
            f"train.scheduler.periods (={scheduler.periods}) cover {sum(scheduler.periods)} of "
            f"train.total_iter (={total_iter}) iterations",
        )
    # BasicSR's defaults: one restart, at iteration 0
    counted_key = "periods" if scheduler.type == "CosineAnnealingRestartLR" else "restarts"
    counted = getattr(scheduler, counted_key)
    if counted is None:
        counted = [0]
    weights = scheduler.restart_weights if scheduler.restart_weights is not None else [1]
    if len(weights) != len(counted):
        problems.error(
            (*path, "restart_weights"),
            f"train.scheduler.restart_weights (={weights}) needs one weight for each of the {len(counted)} "
            f"{counted_key}",
        )
