"""Keys of Real-ESRGAN's and Real-HAT's option files: how pictures are degraded, and for whom they are sharpened.

BasicSR keeps the blur with the dataset and all else on the top level. Defaults are Real-ESRGAN's published values,
which Real-HAT shares; they stand in hriusr/data/degradations/settings.py.
"""

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from hriusr.options.section import NaturalNumber, NonNegativeReal, PositiveInteger, Real, Section

DEGRADING_MODELS = ("RealESRNetModel", "RealHATMSEModel", "RealESRGANModel", "RealHATGANModel")
GAN_MODELS = ("SRGANModel", "RealESRGANModel", "RealHATGANModel")
DEGRADING_DATASET = "RealESRGANDataset"
AUXILIARY_MODEL = "CompressedSRModel"

KernelKind = Literal["iso", "aniso", "generalized_iso", "generalized_aniso", "plateau_iso", "plateau_aniso"]


def _ascends(values: list[float]) -> list[float]:
    if values[0] > values[1]:
        raise ValueError("must be [low, high]")
    return values


def _is_positive(values: list[float]) -> list[float]:
    if values[0] <= 0:
        raise ValueError("must be above 0")
    return values


def _is_quality(values: list[float]) -> list[float]:
    if not 1 <= values[0] <= values[1] <= 100:
        raise ValueError("must lie between 1 and 100")
    return values


def _has_weight(values: list[float]) -> list[float]:
    if not 0 < sum(values):
        raise ValueError("must not all be 0")
    return values


def _is_odd(value: int) -> int:
    if value % 2 == 0:
        raise ValueError("must be odd")
    return value


def _holds_one(values: list[float]) -> list[float]:
    """A range whose two sides of 1 are drawn from equally often."""
    if not values[0] <= 1 <= values[1]:
        raise ValueError("must reach from at most 1 to at least 1")
    return values


Pair = Annotated[list[NonNegativeReal], Field(min_length=2, max_length=2), AfterValidator(_ascends)]
PositivePair = Annotated[Pair, AfterValidator(_is_positive)]
QualityPair = Annotated[PositivePair, AfterValidator(_is_quality)]
PairAroundOne = Annotated[PositivePair, AfterValidator(_holds_one)]
Weights = Annotated[list[NonNegativeReal], AfterValidator(_has_weight)]
ThreeWeights = Annotated[Weights, Field(min_length=3, max_length=3)]
Probability = Annotated[Real, Field(ge=0, le=1)]
OddInteger = Annotated[PositiveInteger, AfterValidator(_is_odd)]


class DegradationOptions(Section):
    """Top-level keys of RealESRNetModel, RealESRGANModel and Real-HAT's models; without effect on others."""

    l1_gt_usm: bool | None = Field(None, description="GAN: the pixel loss is against the sharpened gt; default true.")
    percep_gt_usm: bool | None = Field(
        None, description="GAN: the perceptual loss is against the sharpened gt; default true."
    )
    gan_gt_usm: bool | None = Field(
        None, description="GAN: the discriminator sees the sharpened gt; default true, Real-HAT: false."
    )
    gt_usm: bool | None = Field(
        None, description="RealESRNet: the gt is sharpened before it is degraded; default true."
    )
    high_order_degradation: bool | None = Field(
        None, description="Degrade on the device; false: train on the lq of a RealESRGANPairedDataset."
    )
    resize_prob: ThreeWeights | None = Field(None, description="How often up, down, unchanged; [0.2, 0.7, 0.1].")
    resize_range: PairAroundOne | None = Field(None, description="Smallest and largest factor; [0.15, 1.5].")
    gaussian_noise_prob: Probability | None = Field(None, description="Gaussian rather than Poisson noise; 0.5.")
    noise_range: Pair | None = Field(None, description="Sigma of Gaussian noise, of 255; [1, 30].")
    poisson_scale_range: Pair | None = Field(None, description="Factor of Poisson noise; [0.05, 3].")
    gray_noise_prob: Probability | None = Field(None, description="The same noise in all channels; 0.4.")
    jpeg_range: QualityPair | None = Field(None, description="JPEG quality, 1..100; [30, 95].")
    second_blur_prob: Probability | None = Field(None, description="How often there is a second blur; 0.8.")
    resize_prob2: ThreeWeights | None = Field(None, description="Second round: up, down, unchanged; [0.3, 0.4, 0.3].")
    resize_range2: PairAroundOne | None = Field(
        None, description="Second round: factors, of the size of lq; [0.3, 1.2]."
    )
    gaussian_noise_prob2: Probability | None = Field(None, description="Second round: Gaussian noise; 0.5.")
    noise_range2: Pair | None = Field(None, description="Second round: sigma, of 255; [1, 25].")
    poisson_scale_range2: Pair | None = Field(None, description="Second round: factor; [0.05, 2.5].")
    gray_noise_prob2: Probability | None = Field(None, description="Second round: grey noise; 0.4.")
    jpeg_range2: QualityPair | None = Field(None, description="Second round: JPEG quality; [30, 95].")
    gt_size: PositiveInteger | None = Field(
        None, description="Side of the patch cut out after degrading, pixels of gt; the same as datasets.train.gt_size."
    )
    queue_size: NaturalNumber | None = Field(
        None, description="Pairs of earlier batches that new ones are mixed with; default 180; 0: none."
    )


class KernelOptions(Section):
    """Keys of a RealESRGANDataset: the two blurs and the last sinc filter."""

    crop_pad_size: PositiveInteger | None = Field(
        None, description="RealESRGANDataset: side of what is degraded; default 400, BasicSR's. hriusr's own key."
    )
    blur_kernel_size: OddInteger | None = Field(None, description="Largest kernel, odd; sides are drawn from 7 on; 21.")
    kernel_list: list[KernelKind] | None = Field(None, min_length=1, description="Kinds of kernels; all six.")
    kernel_prob: Weights | None = Field(None, description="How often each kind; [0.45, 0.25, 0.12, 0.03, 0.12, 0.03].")
    sinc_prob: Probability | None = Field(None, description="A sinc kernel instead; 0.1.")
    blur_sigma: PositivePair | None = Field(None, description="Standard deviations, pixels; [0.2, 3].")
    betag_range: PairAroundOne | None = Field(None, description="Shapes of generalised Gaussians; [0.5, 4].")
    betap_range: PairAroundOne | None = Field(None, description="Shapes of plateaus; [1, 2].")
    blur_kernel_size2: OddInteger | None = Field(None, description="Second blur: largest kernel; 21.")
    kernel_list2: list[KernelKind] | None = Field(None, min_length=1, description="Second blur: kinds; all six.")
    kernel_prob2: Weights | None = Field(None, description="Second blur: how often each kind; as the first.")
    sinc_prob2: Probability | None = Field(None, description="Second blur: a sinc kernel instead; 0.1.")
    blur_sigma2: PositivePair | None = Field(None, description="Second blur: standard deviations; [0.2, 1.5].")
    betag_range2: PairAroundOne | None = Field(None, description="Second blur: generalised Gaussians; [0.5, 4].")
    betap_range2: PairAroundOne | None = Field(None, description="Second blur: plateaus; [1, 2].")
    final_sinc_prob: Probability | None = Field(None, description="A sinc filter at the end; 0.8.")
