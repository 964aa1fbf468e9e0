"""Sydney-Captions: 613 images of 500 x 500 pixels from Sydney, five captions each (Qu et al., 2016)."""

from .about import ASK, About
from .captioned_images import CaptionedImages


class SydneyCaptions(CaptionedImages):
    """Folder: `dataset.json` and `imgs/`, or one of the other layouts of `captioned_images`.

    File names are numbers and the published annotations have no classes: labels are -1 unless an annotation has them.
    """

    TITLE = "Sydney-Captions"
    ABOUT = About(
        terms=f"The images come from Google Earth; {ASK}",
        mind=(
            "The set is small: one image of test moves recall by more than a point. Many images share "
            "sentences word for word; `stmine evaluate fisvl` prints recall both ways"
        ),
        chinese="悉尼的 613 张图片，每张五句英文描述",
    )
    SHORT = "sydney"
    OFFICIAL_SIZES = (497, 58, 58)
    FILES = "dataset.json and the folder imgs/ (Sydney_captions)"
    SOURCE = "https://github.com/201528014227051/RSICD_optimal"
    CLASSES = ("airport", "industrial", "meadow", "ocean", "residential", "river", "runway")
    CITATION = """@inproceedings{qu2016deep,
  title={Deep Semantic Understanding of High Resolution Remote Sensing Image},
  author={Qu, Bo and Li, Xuelong and Tao, Dacheng and Lu, Xiaoqiang},
  booktitle={International Conference on Computer, Information and Telecommunication Systems},
  year={2016}
}"""
