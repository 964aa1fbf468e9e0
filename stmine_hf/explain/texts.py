"""The texts of explanations, in English and Chinese."""

from __future__ import annotations

from dataclasses import dataclass

LANGUAGES = ("en", "zh")


@dataclass(frozen=True)
class Text:
    """A text in English and Chinese."""

    en: str
    zh: str

    def __call__(self, language: str, **values: object) -> str:
        """The text in a language, with `values` filled into its {places}."""
        text = self.zh if language == "zh" else self.en
        return text.format(**values) if values else text


LABELS = {"fake": Text("Reads like a rumour", "像谣言"), "real": Text("Reads like news", "像真实消息")}
OTHER_LABEL = Text("Reads like “{label}”", "像“{label}”")
SURE = Text("Model confidence: {share:.1%}", "模型给出 {share:.1%}")
WORDS = Text("Influential words", "起作用的词")
FOR = Text("for this prediction", "支持此判断")
AGAINST = Text("against it", "反对此判断")
UNREAD = Text("not read: the text is longer than the model reads", "未读：文字超出模型能读的长度")
WHAT_IF = Text("What if ...", "如果……")
AS_IT_IS = Text("as it is", "原样")
WITHOUT_IMAGE = Text("without the image", "没有图片")
WITHOUT_WORD = Text("without “{word}”", "没有“{word}”")
IMAGE = Text("Influential parts of the image", "图片中起作用的部分")
METHODS = {
    "occlusion": Text(
        "Each word and each part of the image was removed in turn and the post classified again.",
        "逐一去掉每个词和图片的每一块，再判断一次。",
    ),
    "integrated_gradients": Text(
        "Weights are integrated gradients, from a post without content to this one.",
        "权重由积分梯度算出：从没有内容的帖子到这条帖子。",
    ),
}
