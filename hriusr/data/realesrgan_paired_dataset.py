"""Pairs for fine-tuning on real degradations; takes BasicSR's name RealESRGANPairedDataset.

It is PairedImageDataset, but for the list: its lines may name both pictures, `gt.png, lq.png`.
"""

import os
from pathlib import Path

from hriusr.basicsr_bridge import DATASET_REGISTRY, replace_in
from hriusr.data.dataset_options import uses_lmdb
from hriusr.data.paired_image_dataset import PairedImageDataset
from hriusr.data.picture_paths import PicturePair
from hriusr.data.text_lines import read_lines
from hriusr.errors import DataError

_SEPARATOR = ", "


@replace_in(DATASET_REGISTRY, "RealESRGANPairedDataset")
class RealESRGANPairedDataset(PairedImageDataset):
    """Items and options as PairedImageDataset.

    Raises:
        DataError: as there; a line without partner, or a picture of the list that does not exist.
    """

    def _find_pairs(self) -> list[PicturePair]:
        path = self.opt.get("meta_info_file")
        if path is None or uses_lmdb(self.opt) or not Path(path).is_file():
            return super()._find_pairs()
        lines = read_lines(path)
        if not any(_SEPARATOR in line for line in lines):
            return super()._find_pairs()
        pairs = []
        for number, line in enumerate(lines, start=1):
            names = line.split(_SEPARATOR)
            if len(names) != 2 or self.lq_folder is None:
                raise DataError(f"{path}:{number}: {line!r} must be `gt.png, lq.png`, and dataroot_lq must be given")
            pair = PicturePair(os.path.join(self.opt["dataroot_gt"], names[0]), os.path.join(self.lq_folder, names[1]))
            missing = next((each for each in pair if not os.path.isfile(each)), None)
            if missing:
                raise DataError(f"{path}:{number}: {missing} does not exist: check dataroot_gt and dataroot_lq")
            pairs.append(pair)
        return pairs
