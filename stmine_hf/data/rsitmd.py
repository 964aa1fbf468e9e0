"""RSITMD: 4,743 remote-sensing images of 256 x 256 pixels, five detailed captions each (Yuan et al., 2021)."""

from .about import ASK, About
from .captioned_images import CaptionedImages


class RSITMD(CaptionedImages):
    """Folder: `dataset_RSITMD.json` and `images/`, or another layout of `captioned_images`. No official val split."""

    TITLE = "RSITMD"
    ABOUT = About(
        terms=f"For images and captions {ASK}",
        mind=(
            "RSITMD describes images that RSICD has too: a model trained on one must not be scored on the"
            " other as if it had never seen them. There is no official validation split"
        ),
        chinese="4,743 张遥感图片，每张五句较详细的英文描述；没有官方验证集",
    )
    SHORT = "rsitmd"
    OFFICIAL_SIZES = (4291, 0, 452)
    FILES = "dataset_RSITMD.json and the folder images/"
    SOURCE = "https://github.com/xiaoyuan1996/AMFMN/tree/master/RSITMD"
    CLASSES = (
        "airport", "bareland", "baseballfield", "beach", "boat", "bridge", "center", "church", "commercial",
        "denseresidential", "desert", "farmland", "forest", "industrial", "intersection", "meadow",
        "mediumresidential", "mountain", "park", "parking", "plane", "playground", "pond", "port", "railwaystation",
        "resort", "river", "school", "sparseresidential", "square", "stadium", "storagetanks", "viaduct",
    )  # fmt: skip
    CITATION = """@article{yuan2021exploring,
  title={Exploring a Fine-Grained Multiscale Method for Cross-Modal Remote Sensing Image Retrieval},
  author={Yuan, Zhiqiang and others},
  journal={IEEE Transactions on Geoscience and Remote Sensing},
  year={2021}, doi={10.1109/TGRS.2021.3078451}
}"""
