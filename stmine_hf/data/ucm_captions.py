"""UCM-Captions: 2,100 aerial images of 256 x 256 pixels from UC Merced, five captions each (Qu et al., 2016)."""

from pathlib import Path

from .about import ASK, About
from .captioned_images import CaptionedImages


class UCMCaptions(CaptionedImages):
    """Folder: `dataset.json` and `imgs/`, or one of the other layouts of `captioned_images`."""

    TITLE = "UCM-Captions"
    ABOUT = About(
        terms=f"The images are cut from the USGS National Map; for the captions {ASK}",
        mind=("Many images share sentences word for word; `stmine evaluate fisvl` prints recall both ways"),
        chinese="UC Merced 的 2,100 张航拍图片，每张五句英文描述",
    )
    SHORT = "ucm"
    OFFICIAL_SIZES = (1680, 210, 210)
    FILES = "dataset.json and the folder imgs/ (UCM_captions)"
    SOURCE = "https://github.com/201528014227051/RSICD_optimal"
    CLASSES = (
        "agricultural", "airplane", "baseballdiamond", "beach", "buildings", "chaparral", "denseresidential",
        "forest", "freeway", "golfcourse", "harbor", "intersection", "mediumresidential", "mobilehomepark",
        "overpass", "parkinglot", "river", "runway", "sparseresidential", "storagetanks", "tenniscourt",
    )  # fmt: skip
    CITATION = """@inproceedings{qu2016deep,
  title={Deep Semantic Understanding of High Resolution Remote Sensing Image},
  author={Qu, Bo and Li, Xuelong and Tao, Dacheng and Lu, Xiaoqiang},
  booktitle={International Conference on Computer, Information and Telecommunication Systems},
  year={2016}
}"""

    def class_of(self, filename: str) -> str:
        """Images are numbered 1 to 2100, a hundred of each class in alphabetical order."""
        stem = Path(filename).stem
        number = int(stem) - 1 if stem.isdecimal() else -1
        return self.CLASSES[number // 100] if 0 <= number < 2100 else super().class_of(filename)
