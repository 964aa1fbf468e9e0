"""RSICD: 10,921 remote-sensing images of 224 x 224 pixels, five captions each (Lu et al., 2018)."""

from .about import ASK, About
from .captioned_images import CaptionedImages


class RSICD(CaptionedImages):
    """Folder: `dataset_rsicd.json` and `RSICD_images/`, or one of the other layouts of `captioned_images`.

    The classes are the 30 of the paper and `playfields`, which the authors' lists have besides. Images with a mere
    number for a name have a class only where the annotation says so.
    """

    TITLE = "RSICD"
    ABOUT = About(
        terms=f"The images come from Google Earth, Baidu Map, MapABC and Tianditu; {ASK}",
        mind=("Many images share sentences word for word; `stmine evaluate fisvl` prints recall both ways"),
        chinese="10,921 张遥感图片，每张五句英文描述",
    )
    SHORT = "rsicd"
    OFFICIAL_SIZES = (8734, 1094, 1093)
    FILES = "dataset_rsicd.json and the folder RSICD_images/"
    SOURCE = "https://github.com/201528014227051/RSICD_optimal"
    CLASSES = (
        "airport", "bareland", "baseballfield", "beach", "bridge", "center", "church", "commercial",
        "denseresidential", "desert", "farmland", "forest", "industrial", "meadow", "mediumresidential", "mountain",
        "park", "parking", "playfields", "playground", "pond", "port", "railwaystation", "resort", "river",
        "school", "sparseresidential", "square", "stadium", "storagetanks", "viaduct",
    )  # fmt: skip
    CITATION = """@article{lu2018exploring,
  title={Exploring Models and Data for Remote Sensing Image Caption Generation},
  author={Lu, Xiaoqiang and Wang, Binqiang and Zheng, Xiangtao and Li, Xuelong},
  journal={IEEE Transactions on Geoscience and Remote Sensing},
  volume={56}, number={4}, year={2018}, doi={10.1109/TGRS.2017.2776321}
}"""
