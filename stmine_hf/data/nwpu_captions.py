"""NWPU-Captions: 31,500 remote-sensing images of 256 x 256 pixels, five captions each (Cheng et al., 2022)."""

from .about import ASK, About
from .captioned_images import CaptionedImages


class NWPUCaptions(CaptionedImages):
    """Folder: `dataset_nwpu.json` (lists of images by class, captions as `raw`, `raw_1`, ...) and a folder a class."""

    TITLE = "NWPU-Captions"
    ABOUT = About(
        terms=f"The images are those of NWPU-RESISC45, which come from Google Earth; {ASK}",
        mind="Captions of one class resemble each other; `stmine evaluate fisvl` prints recall both ways",
        chinese="NWPU-RESISC45 的 31,500 张遥感图片，每张五句英文描述",
    )
    SHORT = "nwpu"
    OFFICIAL_SIZES = (25200, 3150, 3150)
    FILES = "dataset_nwpu.json and the images in folders by class (NWPU_images/airplane/airplane_001.jpg)"
    SOURCE = "https://github.com/HaiyanHuang98/NWPU-Captions"
    CLASSES = (
        "airplane", "airport", "baseballdiamond", "basketballcourt", "beach", "bridge", "chaparral", "church",
        "circularfarmland", "cloud", "commercialarea", "denseresidential", "desert", "forest", "freeway",
        "golfcourse", "groundtrackfield", "harbor", "industrialarea", "intersection", "island", "lake", "meadow",
        "mediumresidential", "mobilehomepark", "mountain", "overpass", "palace", "parkinglot", "railway",
        "railwaystation", "rectangularfarmland", "river", "roundabout", "runway", "seaice", "ship", "snowberg",
        "sparseresidential", "stadium", "storagetank", "tenniscourt", "terrace", "thermalpowerstation", "wetland",
    )  # fmt: skip
    CITATION = """@article{cheng2022nwpu,
  title={NWPU-Captions Dataset and MLCA-Net for Remote Sensing Image Captioning},
  author={Cheng, Qimin and Huang, Haiyan and Xu, Yuan and Zhou, Yuzhuo and Li, Huanying and Wang, Zhongyuan},
  journal={IEEE Transactions on Geoscience and Remote Sensing},
  volume={60}, year={2022}, doi={10.1109/TGRS.2022.3201474}
}"""
