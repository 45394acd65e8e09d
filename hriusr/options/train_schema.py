"""Sections of an option file about training: optimiser, schedule, losses. The keys are BasicSR's; ours say so."""

from typing import Literal

from pydantic import ConfigDict, Field

from hriusr.options.section import (
    Fraction,
    Integer,
    NaturalNumber,
    NonNegativeReal,
    PositiveInteger,
    PositiveReal,
    Real,
    Section,
)


class OptimizerOptions(Section):
    """The optimiser of the network; arguments of its class. What is not given has that class's default."""

    type: Literal[
        "Adam",
        "AdamW",
        "Adamax",
        "SGD",
        "ASGD",
        "NAdam",
        "RAdam",
        "RMSprop",
        "Rprop",
        "Adan",
        "Lion",
        "AdamWScheduleFree",
        "Muon",
    ] = Field(
        "Adam",
        description="Adam to Rprop: torch.optim. Adan (arXiv:2208.06677), Lion (arXiv:2302.06675): package timm. "
        "AdamWScheduleFree (arXiv:2405.15682): package schedulefree. Muon: kernels of linear layers and convolutions, "
        "AdamW for the rest. NAdam, RAdam, Adan, Lion, AdamWScheduleFree, Muon are hriusr's own.",
    )
    lr: PositiveReal = Field(description="Learning rate at the start, after warm-up. SwinIR and HAT: 2e-4.")
    weight_decay: NonNegativeReal | None = Field(None, description="Factor of the decay; SwinIR and HAT: 0.")
    betas: list[Fraction] | None = Field(
        None,
        min_length=2,
        max_length=3,
        description="Decay of the running means of gradient and square; SwinIR and HAT: [0.9, 0.99]. Adan takes three.",
    )
    eps: PositiveReal | None = Field(None, description="Added to the denominator; torch's default is 1e-8.")
    amsgrad: bool | None = Field(None, description="Divide by the largest mean square so far (AMSGrad); default false.")
    momentum: Fraction | None = Field(
        None, description="SGD, RMSprop: default 0; Muon: 0.95. Share of the update before that is kept."
    )
    nesterov: bool | None = Field(
        None, description="SGD, Muon: take the gradient where the momentum leads; default false, Muon true."
    )
    dampening: Fraction | None = Field(None, description="SGD: share of the gradient kept out of the momentum.")
    alpha: Fraction | None = Field(None, description="RMSprop: decay of the mean square, default 0.99.")
    centered: bool | None = Field(None, description="RMSprop: subtract the mean gradient's square; default false.")
    momentum_decay: NonNegativeReal | None = Field(None, description="NAdam: decay of the momentum, default 0.004.")
    decoupled_weight_decay: bool | None = Field(
        None, description="NAdam, RAdam: decay weights apart from the gradient, as AdamW; default false."
    )
    no_prox: bool | None = Field(None, description="Adan: decay weights before the update, as AdamW; default false.")
    ns_steps: PositiveInteger | None = Field(None, description="Muon: Newton-Schulz iterations, default 5.")
    fused: bool | None = Field(
        None, description="Adam, AdamW, Muon: one kernel for all parameters; default true. hriusr's own key."
    )
    foreach: bool | None = Field(
        None, description="Few kernels for many parameters; the default of most, in place of fused. hriusr's own key."
    )
    no_decay_norm_bias: bool | None = Field(
        None,
        description="weight_decay acts on kernels of linear and convolutional layers alone, not on norms, biases, "
        "scales and relative tables; default false. hriusr's own key.",
    )
    lr_mult: dict[str, NonNegativeReal] | None = Field(
        None,
        description="Pattern of parameter names -> factor of the learning rate, for fine-tuning: {'layers.*': 0.1}; "
        "the first that fits counts. hriusr's own key.",
    )


class SchedulerOptions(Section):
    """How the learning rate changes with the iteration; each type takes its own keys."""

    type: Literal[
        "MultiStepLR",
        "MultiStepRestartLR",
        "CosineAnnealingRestartLR",
        "CosineAnnealingLR",
        "OneCycleLR",
        "LinearLR",
        "PolynomialLR",
        "ConstantLR",
    ] = Field(
        description="MultiStep*: steps down; CosineAnnealing*: half a cosine; OneCycleLR: up, then far down; LinearLR, "
        "PolynomialLR: as named; ConstantLR: for AdamWScheduleFree. Those from CosineAnnealingLR on are hriusr's own."
    )
    milestones: list[PositiveInteger] | None = Field(
        None, description="MultiStep*: iterations after which the rate is multiplied by gamma."
    )
    gamma: PositiveReal | None = Field(None, description="MultiStep*: factor at a milestone; BasicSR's default is 0.1.")
    restarts: list[NaturalNumber] | None = Field(None, description="MultiStep*: iterations at which the rate restarts.")
    periods: list[PositiveInteger] | None = Field(
        None, description="CosineAnnealingRestartLR: length of each cosine, iterations; their sum covers total_iter."
    )
    restart_weights: list[Real] | None = Field(
        None, description="Factor of the starting rate at each restart, or in each of the periods."
    )
    eta_min: NonNegativeReal | None = Field(None, description="CosineAnnealing*: the rate at the end; default 0.")
    T_max: PositiveInteger | None = Field(
        None, description="CosineAnnealingLR: iterations of the half cosine; default train.total_iter."
    )

    total_steps: PositiveInteger | None = Field(
        None, description="OneCycleLR: iterations of the cycle; default train.total_iter. optim_g.lr is its peak."
    )
    pct_start: Fraction | None = Field(None, description="OneCycleLR: share of the cycle that rises; default 0.3.")
    div_factor: PositiveReal | None = Field(None, description="OneCycleLR: peak / first rate; default 25.")
    final_div_factor: PositiveReal | None = Field(None, description="OneCycleLR: first / last rate; default 1e4.")
    anneal_strategy: Literal["cos", "linear"] | None = Field(None, description="OneCycleLR: curve; default cos.")
    three_phase: bool | None = Field(None, description="OneCycleLR: fall as fast as it rose; default false.")
    start_factor: PositiveReal | None = Field(None, description="LinearLR: factor at the start; default 1.")
    end_factor: NonNegativeReal | None = Field(None, description="LinearLR: factor at the end.")
    total_iters: PositiveInteger | None = Field(
        None,
        description="LinearLR, PolynomialLR: iterations until the end; default train.total_iter. ConstantLR: those "
        "with the factor; default 0.",
    )
    power: PositiveReal | None = Field(None, description="PolynomialLR: exponent, default 1.")
    factor: PositiveReal | None = Field(None, description="ConstantLR: of the rate in the first total_iters.")


class LossOptions(Section):
    """A registered loss; keys other than these go to its constructor and are checked against its signature."""

    model_config = ConfigDict(extra="allow")

    type: str = Field(description="Registered loss: L1Loss, CharbonnierLoss, MSELoss ...")
    loss_weight: Real | None = Field(None, description="Factor in the sum of the losses; default 1.")
    reduction: Literal["mean", "sum"] | None = Field(
        None, description="Over pixels; default mean. BasicSR's none gives no number to minimise."
    )


class NamedLossOptions(LossOptions):
    """A loss of train.losses."""

    start_iter: NaturalNumber = Field(
        0, description="Iteration from which on the loss is added; those before do without. hriusr's own key."
    )


class GANLossOptions(Section):
    """The adversarial loss; keys other than these go to its constructor and are checked against its signature."""

    model_config = ConfigDict(extra="allow")

    type: str = Field(description="Registered loss: GANLoss.")
    loss_weight: Real | None = Field(None, description="Factor of the generator's loss; default 1, Real-ESRGAN: 0.1.")


class RecomputeOptions(Section):
    """Activation checkpointing of chosen modules of any network; `use_checkpoint` of our networks takes all blocks."""

    modules: list[str] = Field(min_length=1, description="Patterns of module names, as the shell has them: body.*.")
    every: PositiveInteger = Field(1, description="Take each k-th module that matches: a part of memory and time.")


class TrainOptions(Section):
    """What a training run does; read by train.py alone."""

    total_iter: PositiveInteger = Field(description="Training steps (parameter updates) in all.")
    warmup_iter: Integer = Field(-1, description="Steps over which the rate grows from 0, linearly; -1: none.")
    warmup_start_factor: Fraction = Field(
        0.0, description="Share of the rate from which the warm-up grows. hriusr's own key."
    )
    ema_decay: Fraction = Field(
        0.0, description="Decay of the running mean of the weights that is validated and saved (0.999); 0: none."
    )
    ema_start: NaturalNumber = Field(
        0, description="Iteration until which the running mean is a copy of the weights. hriusr's own key."
    )
    ema_warmup: bool = Field(
        False,
        description="Let the decay grow as (1 + t) / (10 + t) with the steps t since ema_start, up to ema_decay. "
        "hriusr's own key.",
    )
    optim_g: OptimizerOptions = Field(description="Optimiser of the network.")
    scheduler: SchedulerOptions = Field(description="Learning-rate schedule.")
    pixel_opt: LossOptions | None = Field(None, description="Loss between output and ground truth, pixel by pixel.")
    perceptual_opt: LossOptions | None = Field(
        None,
        description="PerceptualLoss (arXiv:1603.08155) on VGG features; their weights are a file that is already here, "
        "vgg_path, and are never fetched.",
    )
    aux_opt: LossOptions | None = Field(
        None,
        description="CompressedSRModel: loss between the network's auxiliary output, the clean low-resolution picture, "
        "and lq before compression. hriusr's own key.",
    )
    losses: dict[str, NamedLossOptions] | None = Field(
        None,
        description="More losses by names of your choice, logged as l_<name>: "
        "{fft: {type: FFTLoss, loss_weight: 0.05}}; the sum of all is minimised. hriusr's own key.",
    )
    gan_opt: GANLossOptions | None = Field(
        None, description="GAN: loss of the discriminator's answers: GANLoss with gan_type vanilla, lsgan, wgan, hinge."
    )
    optim_d: OptimizerOptions | None = Field(None, description="GAN: optimiser of the discriminator.")
    net_d_iters: PositiveInteger | None = Field(
        None, description="GAN: steps of the discriminator for one of the generator; default 1."
    )
    net_d_init_iters: NaturalNumber | None = Field(
        None, description="GAN: steps at the start in which the discriminator learns alone; default 0."
    )
    grad_clip_norm: PositiveReal | None = Field(
        None, description="Scale gradients down to this norm when they exceed it; absent: never. hriusr's own key."
    )
    max_nonfinite_steps: PositiveInteger = Field(
        100,
        description="Steps in a row whose loss or gradient is not finite before the run gives up. hriusr's own key.",
    )
    spike_factor: PositiveReal | None = Field(
        None,
        description="Leave a step out whose gradient norm exceeds this factor times the median of the last 128 steps; "
        "10 is a start; absent: never. hriusr's own key.",
    )
    recompute: RecomputeOptions | None = Field(
        None, description="Modules whose inside is computed again in the backward pass; absent: none. hriusr's own key."
    )
    accumulation: PositiveInteger = Field(
        1, description="Batches whose gradients are averaged before one update. hriusr's own key."
    )
