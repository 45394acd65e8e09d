"""Sections of an option file about data: datasets, their backend, their loader.

The keys are BasicSR's (docs/Config.md and docs/DatasetPreparation.md there); ours beside them say so.
"""

from typing import Literal

from pydantic import Field

from hriusr.options.degradation_schema import KernelOptions
from hriusr.options.section import NaturalNumber, PositiveInteger, PositiveReal, Real, Section


class BackendOptions(Section):
    """Where pictures are read from."""

    type: Literal["disk", "lmdb"] = Field("disk", description="disk: a folder of pictures; lmdb: a database X.lmdb.")


class PatchStageOptions(Section):
    """A stage of growing patches: from one step to the next stage."""

    iter: PositiveInteger = Field(description="Steps that are done when this stage begins.")
    gt_size: PositiveInteger | None = Field(None, description="Side of the patch, pixels of gt; default: as before.")
    batch_size: PositiveInteger | None = Field(None, description="Patches a step and process; default: as before.")


class DatasetOptions(KernelOptions):
    """One dataset: the entry train, val, val_1 ..., test_1 ... of `datasets`."""

    name: str = Field(description="Name in logs, reports and results/<run>/visualization/<name>; no two alike.")
    type: str = Field(
        description="Registered dataset. PairedImageDataset: low-resolution (lq) and ground-truth (gt) pictures; "
        "SingleImageDataset: lq alone, measured by NIQE at most; RealESRGANDataset: gt and kernels to degrade it with."
    )
    dataroot_gt: str | None = Field(None, description="Folder or .lmdb of the ground truth, relative to where you run.")
    dataroot_lq: str | None = Field(
        None, description="Folder or .lmdb with the low-resolution pictures; absent: made from gt, see lq_on_the_fly."
    )
    meta_info_file: str | None = Field(
        None, description="Text file, one picture a line (name, then anything); absent: every picture of the folder."
    )
    filename_tmpl: str = Field(
        "{}", description="lq file name for a gt name without extension: '{}x4' when the lq of baby.png is babyx4.png."
    )
    io_backend: BackendOptions = Field(default_factory=BackendOptions, description="How the pictures are stored.")
    lq_on_the_fly: bool | None = Field(
        None,
        description="Make lq from gt by MATLAB's bicubic; implied when dataroot_lq is absent. hriusr's own key.",
    )
    cache: Literal["none", "memory", "disk"] = Field(
        "none",
        description="memory: keep decoded pictures in RAM (width x height x 3 bytes each); disk: in a memory-mapped "
        "file in TMPDIR, for sets that are larger than RAM. hriusr's own key.",
    )
    recursive: bool = Field(
        False,
        description="Take the pictures of the folders below dataroot_gt too, of a SingleImageDataset below "
        "dataroot_lq. hriusr's own key.",
    )
    mean: list[Real] | None = Field(None, description="Subtracted from the input, one number a channel, range 0..1.")
    std: list[Real] | None = Field(None, description="The input is divided by it, one number a channel, range 0..1.")
    color: Literal["y", "grey", "n"] | None = Field(
        None, description="One channel: y, the Y of YCbCr (BT.601, 16..235); grey, brightness (0..255), hriusr's own."
    )
    lq_noise: PositiveReal | None = Field(
        None, description="Sigma, of 255, of Gaussian noise that is added to lq, a float. hriusr's own key."
    )
    lq_jpeg_quality: PositiveInteger | None = Field(
        None, le=100, description="Quality, 1..100, of the JPEG that lq becomes. hriusr's own key."
    )
    gt_size: PositiveInteger | None = Field(
        None, description="Side of the square training patch, pixels of gt; a multiple of the scale. Training only."
    )
    use_hflip: bool = Field(True, description="Flip at random, left-right. Training only.")
    use_rot: bool = Field(True, description="Rotate at random by multiples of 90 degrees. Training only.")
    batch_size_per_gpu: PositiveInteger | None = Field(
        None, description="Patches a step and process; times processes and train.accumulation is the whole batch."
    )
    progressive: list[PatchStageOptions] | None = Field(
        None,
        description="Patches that grow while training (Restormer, arXiv:2111.09881): what gt_size and "
        "batch_size_per_gpu become after `iter` steps. hriusr's own key.",
    )
    num_worker_per_gpu: NaturalNumber = Field(
        0, description="Processes that load data, for each training process; 0 loads in the training process itself."
    )
    dataset_enlarge_ratio: PositiveInteger = Field(
        1, description="An epoch in the log is this many passes over the pictures; sampling itself is endless."
    )
    pin_memory: bool = Field(True, description="Load into page-locked memory, where there is a GPU: faster copies.")
    prefetch_mode: Literal["cpu", "cuda"] | None = Field(
        None, description="Read batches ahead, beside what loading processes do: cpu on a thread, cuda onto the GPU."
    )
    num_prefetch_queue: PositiveInteger = Field(1, description="Batches that prefetch_mode cpu reads ahead.")
    enlarge_small: bool = Field(
        False,
        description="Enlarge a gt smaller than gt_size, as HAT does with ImageNet, where lq is made from it; of a "
        "RealESRGANDataset, one smaller than crop_pad_size. hriusr's own key.",
    )
    skip_small: bool = Field(
        False,
        description="In training, leave out gt smaller than gt_size (of a RealESRGANDataset: than crop_pad_size), with "
        "a warning; without effect beside enlarge_small. hriusr's own key.",
    )
