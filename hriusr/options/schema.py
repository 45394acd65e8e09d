"""The option file as a whole: BasicSR's and HAT's keys, one documented field each, and hriusr's own beside them.

The schema says what a single value may be. checks.py finds values that contradict each other or the disk, foreign.py
knows BasicSR's keys that have no effect here, and load.py puts it all together.
"""

from typing import Any, Literal

import yaml
from pydantic import ConfigDict, Field, PrivateAttr, field_validator

from hriusr.options.basicsr_form import basicsr_form
from hriusr.options.data_schema import DatasetOptions
from hriusr.options.degradation_schema import DegradationOptions
from hriusr.options.run_context import RunContext
from hriusr.options.section import NaturalNumber, PositiveInteger, Section, as_integer
from hriusr.options.train_schema import TrainOptions

_LONGEST_NAME = 180  # bytes of a run's name, with which names of files and of older runs begin; 255 is a disk's limit


class NetworkOptions(Section):
    """The network; every key but `type` goes to its constructor and is checked against its signature."""

    model_config = ConfigDict(extra="allow")

    type: str = Field(description="Registered architecture: HRIUSR, HAT, SwinIR, Swin2SR, EDSR ...")


class PathOptions(Section):
    """Weights to start from, states to resume."""

    pretrain_network_g: str | None = Field(None, description="Weights to load at the start: .pth or .safetensors.")
    param_key_g: str | None = Field(
        None,
        description="Entry of the .pth to load: params (default), params_ema (running mean), or another.",
    )
    strict_load_g: bool = Field(True, description="Every parameter must match; false loads those that do.")
    pretrain_network_d: str | None = Field(None, description="GAN: weights of the discriminator to start from.")
    param_key_d: str | None = Field(None, description="GAN: entry of that file to load; default params.")
    strict_load_d: bool | None = Field(None, description="GAN: every parameter must match; default true.")
    resume_state: str | None = Field(
        None,
        description="auto (the default): a run of this name that is unfinished and has the same options goes on, else "
        "a new one starts, and the old folder is kept under another name; new: always a new one; or a training state: "
        "experiments/<name>/training_states/<iteration>.state.",
    )


class MetricOptions(Section):
    """A registered metric; keys other than these go to the function and are checked against its signature."""

    model_config = ConfigDict(extra="allow")

    type: str = Field(description="Registered metric: calculate_psnr, calculate_ssim, calculate_niqe.")
    crop_border: NaturalNumber = Field(
        0, description="Pixels cut off each side before measuring; the scale, by the field's convention."
    )
    test_y_channel: bool = Field(False, description="Measure on the Y of YCbCr (BT.601, 16..235), as papers do.")
    better: Literal["higher", "lower"] = Field("higher", description="Which value is the best one of a run.")


class ValOptions(Section):
    """Validation while training, and testing."""

    val_freq: PositiveInteger = Field(5000, description="Iterations between validations. Training only.")
    save_img: bool | None = Field(None, description="Save the pictures; default: true in testing, false in training.")
    suffix: str | None = Field(None, description="Ending of saved file names; default: the run's name.")
    pbar: bool = Field(True, description="Show a progress bar.")
    metrics: dict[str, MetricOptions] | None = Field(
        None, description="Label of a column -> metric; absent: none in training, PSNR and SSIM in testing."
    )
    best_metric: str | None = Field(
        None,
        description="Metric whose best weights are kept as net_g_best.pth: a label, or dataset's name/label; default: "
        "the first metric, on the first validation set that has what it takes. hriusr's own key.",
    )

    @field_validator("suffix", mode="before")
    @classmethod
    def _number_is_text(cls, value: Any) -> Any:
        return str(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else value

    @field_validator("suffix")
    @classmethod
    def _is_part_of_a_name(cls, value: str | None) -> str | None:
        if value is not None and set(value) & {"/", "\\", "\0"}:
            raise ValueError("must be part of a file name, without / and \\")
        return value


class WandbOptions(Section):
    """Weights & Biases, BasicSR's keys; wants `pip install wandb`."""

    project: str | None = Field(None, description="Project that the run is sent to; absent: Weights & Biases is off.")
    resume_id: str | None = Field(
        None, description="Run to go on in; default: the one that experiments/<name>/wandb_id.txt names, or a new one."
    )
    mode: Literal["online", "offline", "disabled"] | None = Field(
        None, description="offline: keep it in the run's folder for `wandb sync`; default: wandb's. hriusr's own key."
    )


class LoggerOptions(Section):
    """What is written while training, and how often."""

    print_freq: PositiveInteger = Field(100, description="Iterations between two log lines.")
    save_checkpoint_freq: PositiveInteger = Field(5000, description="Iterations between two checkpoints.")
    keep_checkpoints: PositiveInteger | None = Field(
        None, description="Newest checkpoints that are kept, older ones are deleted; absent: all. hriusr's own key."
    )
    keep_every: PositiveInteger | None = Field(
        None, description="Keep checkpoints at multiples of this iteration besides keep_checkpoints. hriusr's own key."
    )
    use_tb_logger: bool = Field(True, description="Write TensorBoard files to tb_logger/<name>.")
    num_val_images: NaturalNumber = Field(
        3,
        description="First pictures of each validation set shown in TensorBoard: bicubic, result and ground truth "
        "side by side. hriusr's own key.",
    )
    histogram_freq: NaturalNumber = Field(
        0, description="Iterations between histograms of weights and gradients; 0: none. hriusr's own key."
    )
    wandb: WandbOptions | None = Field(None, description="Weights & Biases, beside TensorBoard; absent: off.")


class TileOptions(Section):
    """Cut large pictures into overlapping tiles when testing, as HAT does: bounds the memory."""

    tile_size: PositiveInteger = Field(description="Side of a tile, pixels of lq, without its padding.")
    tile_pad: NaturalNumber = Field(32, description="Overlap on each side of a tile, pixels of lq.")
    batch_size: PositiveInteger = Field(1, description="Tiles of equal shape computed at once. hriusr's own key.")


class DistributedOptions(Section):
    """How processes of one run talk to each other; read with --launcher pytorch or slurm."""

    backend: Literal["nccl", "gloo"] = Field("nccl", description="nccl between GPUs, gloo on CPUs.")
    port: PositiveInteger | None = Field(
        None, description="TCP port of process 0 under slurm; default 29500 + the job's number modulo 1000."
    )
    timeout: PositiveInteger = Field(
        1800,
        description="Seconds a process waits for another before it gives up; one that ended is noticed at once. "
        "hriusr's own key.",
    )


class Options(DegradationOptions):
    """An option file of hriusr, BasicSR or HAT."""

    base: str | list[str] | None = Field(
        None, description="File(s) this one inherits from, relative to it; mappings are overlaid, lists replaced."
    )
    name: str = Field(description="Name of the run and of its folder under experiments/ or results/; never inherited.")
    model_type: str = Field("SRModel", description="Registered training step: SRModel, RestorationModel, HATModel ...")
    scale: PositiveInteger = Field(1, description="Output size over input size; must agree with the network's upscale.")
    num_gpu: NaturalNumber | Literal["auto"] = Field("auto", description="GPUs to use; auto: all visible; 0: the CPU.")
    manual_seed: NaturalNumber | None = Field(
        0, lt=2**53, description="Seed of weights, crops and shuffling; ~ draws one and logs it."
    )
    precision: Literal["fp32", "bf16", "fp16"] = Field(
        "fp32", description="Autocast of the network's forward pass; weights stay fp32. hriusr's own key."
    )
    compile: bool = Field(False, description="torch.compile the network: slow start, faster steps. hriusr's own key.")
    channels_last: bool = Field(False, description="NHWC memory format; often faster convolutions. hriusr's own key.")
    parallel: Literal["ddp", "fsdp"] = Field(
        "ddp",
        description="Several processes: ddp, each holds all parameters; fsdp (FSDP2), a part of each, for networks too "
        "large for one GPU. hriusr's own key.",
    )
    find_unused_parameters: bool = Field(
        False, description="DistributedDataParallel looks for parameters without gradient, at some cost."
    )
    datasets: dict[str, DatasetOptions] = Field(
        default_factory=dict, description="train, val or val_<x>, test or test_<x> -> dataset."
    )
    network_g: NetworkOptions = Field(description="The network that is trained or tested.")
    network_d: NetworkOptions | None = Field(None, description="GAN: the discriminator, such as UNetDiscriminatorSN.")
    path: PathOptions = Field(default_factory=PathOptions, description="Files to start from.")
    train: TrainOptions | None = Field(None, description="Training; needed by train.py, not read by test.py.")
    val: ValOptions | None = Field(None, description="Validation and testing; absent: no validation while training.")
    logger: LoggerOptions = Field(default_factory=LoggerOptions, description="Log, checkpoints, TensorBoard.")
    tile: TileOptions | None = Field(None, description="Tiled testing; absent: whole pictures.")
    dist_params: DistributedOptions = Field(default_factory=DistributedOptions, description="Several processes.")

    _run: RunContext = PrivateAttr(default_factory=RunContext)

    @field_validator("name")
    @classmethod
    def _name_is_a_folder_name(cls, name: str) -> str:
        if not name.strip() or name in (".", "..") or set(name) & set('/\\:*?"<>|\0'):
            raise ValueError('it names a folder: no / \\ : * ? " < > | and not empty')
        if len(name.encode()) > _LONGEST_NAME:
            raise ValueError(f"it names files too: at most {_LONGEST_NAME} bytes (now {len(name.encode())})")
        return name

    @field_validator("num_gpu", mode="before")
    @classmethod
    def _number_of_gpus(cls, value: Any) -> Any:
        number = as_integer(value) if isinstance(value, (int, float, str)) and not isinstance(value, bool) else None
        if value != "auto" and not (isinstance(number, int) and number >= 0):
            raise ValueError("must be auto (all visible GPUs), 0 (the CPU) or a number of GPUs")
        return value

    @property
    def run(self) -> RunContext:
        """How and where this process runs: what command line and environment say."""
        return self._run

    def to_basicsr_dict(self) -> dict[str, Any]:
        """Return a fresh dict in the form BasicSR's models, datasets and pipelines expect."""
        return basicsr_form(self.model_dump(exclude_none=True, exclude={"base"}), self.run)

    def to_yaml(self) -> str:
        """Write the options as one option file: bases merged, overrides applied; what was ignored stands on top."""
        heading = "".join(f"# {warning}\n" for warning in self.run.warnings)
        values = self.model_dump(mode="json", exclude_none=True, exclude={"base"})
        return heading + yaml.safe_dump(values, sort_keys=False, allow_unicode=True)
