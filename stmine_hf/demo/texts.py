"""What the report of the demo says, in English and Chinese."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Text:
    en: str
    zh: str

    def __call__(self, language: str, **values: object) -> str:
        """The text in a language, with `values` filled into its {places}."""
        return (self.zh if language == "zh" else self.en).format(**values)


LANGUAGES = ("en", "zh")

TITLE = Text("Find places. Check posts. Spot objects.", "找地点 · 查帖子 · 认目标")
SUBTITLE = Text(
    "Three small models at work on this computer, without a network. All images and posts here are made up for this "
    "page{except_own}.",
    "三个小模型在这台电脑上离线运行的结果。本页的图片和帖子都是为演示而生成的{except_own}。",
)
EXCEPT_OWN = Text(", but for those of your folder", "，您文件夹里的图片除外")

SEARCH = Text("1. Describe a place, see it from above", "1. 描述一个地方，从空中找到它")
SEARCH_HOW = Text(
    "The best of {count} images from above for a sentence. Beside each: <b>orange</b> where the image is what the "
    "words say, grey where it is not.",
    "为每句话从 {count} 张俯视图片中选出最符合的几张。旁边一张中，<b>橙色</b>处与文字相符，灰色处不符。",
)
SEARCH_SKIPPED = Text("Left out, since they cannot be read: {count}.", "无法读取而略过的图片：{count} 张。")
SIMILARITY = Text("similarity {score:.2f}", "相似度 {score:.2f}")
READ_AS = Text("(the model reads English: “{sentence}”)", "（模型只懂英文：“{sentence}”）")

POSTS = Text("2. Does this post read like a rumour?", "2. 这条帖子像谣言吗？")
POSTS_HOW = Text(
    "Words and parts of the image are taken away one by one. What turns <b class=for>red</b> speaks for the "
    "verdict, <b class=against>blue</b> against it.",
    "逐一拿掉每个词和图片的每一块，再判断一次。<b class=for>红色</b>支持结论，<b class=against>蓝色</b>与之相反。",
)
FAKE = Text("reads like a rumour", "像谣言")
REAL = Text("reads like news", "像真实消息")
OTHER = Text("reads like “{label}”", "像“{label}”")
SURE = Text("{share:.1%}, says the model", "模型给出 {share:.1%}")
WHAT_IF = Text("What if …", "如果……")
AS_IT_IS = Text("as it is", "原样")
WITHOUT_IMAGE = Text("without the image", "去掉图片")
WITHOUT_TEXT = Text("without the text", "去掉文字")
WITHOUT_WORD = Text("without “{word}”", "去掉“{word}”")
NO_PROOF = Text(
    "A verdict is no proof. The model has never heard of the event; it has learnt how debunked rumours and news on "
    "Weibo were worded.",
    "结论不是证据。模型并不了解事件本身，它只学过微博上被辟谣的帖子和新闻各是怎么写的。",
)

OBJECTS = Text("3. Spot objects, even well hidden ones", "3. 找出目标，哪怕藏得很好")
OBJECTS_HOW = Text(
    "Two models of under a million parameters, small enough for a phone: one knows everyday things, the other looks "
    "for what hides. Each box bears a name and how sure the model is.",
    "两个不到一百万参数的模型，小到可以放进手机：一个认识日常物品，一个专找隐藏的目标。每个框标有名称和把握。",
)
STREET = Text("Everyday things in a drawn street", "一条画出来的街道上的日常物品")
HIDDEN = Text(
    "Find the animals yourself first; then look at the boxes (the model misses some, too)",
    "先自己找找动物，再看右边的框（模型也会漏掉一些）",
)
VIDEO = Text("A video: {frames} frames, {boxes} boxes", "一段视频：{frames} 帧，{boxes} 个框")
FOUND = Text("Found: {what}", "找到：{what}")
NOTHING = Text("Nothing found.", "没有找到。")

EVENT = Text("4. From a post to the ground: all three together", "4. 从帖子到地面：三个模型合作")
EVENT_HOW = Text(
    "One post: does it read like a rumour, what is in its image, and what do places like the one it names look like "
    "from above?",
    "一条帖子：它像谣言吗？图里有什么？它说的这类地方从空中看是什么样子？",
)
EVENT_VERDICT = Text("Does it read like a rumour?", "像谣言吗？")
EVENT_OBJECTS = Text("What is in its image?", "图里有什么？")
EVENT_GROUND = Text(
    "Such places from above, searched for as “{sentence}”", "这样的地方从空中看（检索词：“{sentence}”）"
)

FOOTER = Text(
    "Made in {seconds:.0f} s on this computer with {models}. The models are small and make mistakes. To try your own: "
    "<code>stmine demo</code> opens the page to play with, <code>stmine demo --once --images my_images --query "
    "“a bridge over a river”</code> writes this one with your images.",
    "在这台电脑上用 {seconds:.0f} 秒做成，所用模型：{models}。模型很小，会出错。用自己的图片试试："
    "<code>stmine demo</code> 打开可以操作的页面，<code>stmine demo --once --images my_images "
    "--query “a bridge over a river”</code> 用您的图片生成本页。",
)
