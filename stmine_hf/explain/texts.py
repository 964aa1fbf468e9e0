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


# The labels as the model has them, in Chinese with their meaning.
LABELS = {"fake": Text("fake", "fake（谣言）"), "real": Text("real", "real（真实消息）")}
OTHER_LABEL = Text("{label}", "{label}")
SURE = Text("Model confidence: {share:.1%}", "模型给出 {share:.1%}")
WORDS = Text("Influential words", "起作用的词")
TOWARDS = Text("speaks for {label}", "支持 {label}")
AGAINST = Text("speaks against {label}", "反对 {label}")
NOT_PROOF = Text("A model's estimate, not proof.", "这是模型的估计，不是证据。")
ABOUT_LABELS = Text(
    "{labels} are the labels of the posts that the model was trained on.", "{labels} 是模型训练所用帖子的标签。"
)
ABOUT_WEIBO = Text(
    "{labels} are labels of posts on Weibo: “fake” of rumours that had been debunked, “real” of confirmed news.",
    "{labels} 是微博帖子的标签：fake 为已辟谣的谣言，real 为经证实的新闻。",
)
MODEL = Text("Model: {model}", "模型：{model}")
STRENGTH = Text(
    "The stronger the colour, the more the model's estimate changes without this word or part.",
    "颜色越深，去掉该词或该部分后模型的估计变化越大。",
)
UNREAD = Text("not read: the text is longer than the model reads", "未读：文字超出模型能读的长度")
WHAT_IF = Text("What if ...", "如果……")
AS_IT_IS = Text("as it is", "原样")
WITHOUT_IMAGE = Text("without the image", "没有图片")
WITHOUT_WORD = Text("without “{word}”", "没有“{word}”")
IMAGE = Text("Influential parts of the image", "图片中起作用的部分")
METHODS = {
    "occlusion": Text(
        "Each word and each part of the image was removed in turn and the post classified again. What is removed "
        "together can count for more or less than the sum of its parts.",
        "逐一去掉每个词和图片的每一块，再判断一次。一起去掉的效果不等于各部分之和。",
    ),
    "integrated_gradients": Text(
        "Weights are integrated gradients, from a post without content to this one.",
        "权重由积分梯度算出：从没有内容的帖子到这条帖子。",
    ),
}
