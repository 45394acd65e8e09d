"""The first stage of Real-ESRGAN and Real-HAT: pixel loss on pairs that are made on the device."""

from hriusr.basicsr_bridge import MODEL_REGISTRY, replace_in
from hriusr.models.real_pairs import MakesPairs, wants
from hriusr.models.sr_model import RestorationModel


@replace_in(MODEL_REGISTRY, "RealESRNetModel")
@replace_in(MODEL_REGISTRY, "RealHATMSEModel")
class RealMSEModel(MakesPairs, RestorationModel):
    """A RestorationModel fed by RealESRGANDataset; with gt_usm the ground truth is sharpened before it is degraded."""

    def init_training_settings(self) -> None:
        """Build what makes pairs, then all that RestorationModel has."""
        is_sharp = wants(self.opt, "gt_usm")
        self.build_pairs(sharpens_gt=is_sharp, sharpens_source=is_sharp)
        super().init_training_settings()
