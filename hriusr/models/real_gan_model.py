"""The second stage of Real-ESRGAN and Real-HAT: against a discriminator, on pairs that are made on the device."""

from hriusr.basicsr_bridge import MODEL_REGISTRY, replace_in
from hriusr.data.degradations.filters import sharpen
from hriusr.models.gan_model import GANModel, Targets
from hriusr.models.real_pairs import MakesPairs, wants


@replace_in(MODEL_REGISTRY, "RealESRGANModel")
@replace_in(MODEL_REGISTRY, "RealHATGANModel")
class RealGANModel(MakesPairs, GANModel):
    """A GANModel fed by RealESRGANDataset; flags say which losses see the sharpened ground truth."""

    def init_training_settings(self) -> None:
        """Build what makes pairs, then all that GANModel has."""
        self.build_pairs(sharpens_gt=False, sharpens_source=True)
        super().init_training_settings()

    def targets(self) -> Targets:
        """Sharpen the ground truth for the losses that l1_gt_usm, percep_gt_usm and gan_gt_usm name."""
        flags = [wants(self.opt, name) for name in ("l1_gt_usm", "percep_gt_usm", "gan_gt_usm")]
        sharp_BCHW = sharpen(self.gt) if any(flags) else self.gt
        return Targets(*(sharp_BCHW if flag else self.gt for flag in flags))
