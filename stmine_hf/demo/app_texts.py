"""What the page of the demo says, in English and Chinese."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Language = Literal["en", "zh"]


@dataclass(frozen=True)
class Text:
    en: str
    zh: str

    def __call__(self, language: str, **values: object) -> str:
        """The text in a language, with `values` filled into its {places}."""
        text = self.zh if language == "zh" else self.en
        return text.format(**values) if values else text


TITLE = Text("Find places. Check posts. Spot objects.", "找地点 · 查帖子 · 认目标")
SUBTITLE = Text(
    "Three small models that run on an ordinary computer. Try an example, or bring your own.",
    "三个在普通电脑上就能运行的小模型。点一个例子，或者用您自己的图片和文字。",
)
FOOTER = Text(
    "The models are small and make mistakes. All examples are drawn by a program; no post was written by anybody. "
    "What you send is deleted after about an hour.",
    "模型很小，会出错。所有例子都由程序绘制，帖子均为虚构。您上传的内容约一小时后删除。",
)
EXAMPLES = Text("Try one", "试一试")
BROKEN = "Something went wrong here, not on your side. Please try again. 程序出错了，请再试一次。"

# Find a place
SEARCH_TAB = Text("Places", "找地点")
SEARCH_TITLE = Text("Describe a place, see it from above", "描述一个地方，从空中找到它")
SEARCH_INTRO = Text(
    "The images that fit your sentence best come first. Choose one to see which parts of it match your words.",
    "最符合描述的卫星图片排在最前。点其中一张，看看图中哪些部分与文字相符。",
)
SEARCH_SENTENCE = Text("Describe the place", "描述地点")
SEARCH_HINT = Text(
    "for example: a river between green trees", "例如：机场、河边的树林，或英文 a river between green trees"
)
SEARCH_READ = Text("The model reads English: “{sentence}”", "模型只懂英文，检索词：“{sentence}”")
SEARCH_UNREAD = Text(
    "The model reads English; of Chinese only words for kinds of places, such as that for an airport.",
    "模型只懂英文；中文只认得机场、港口、河流这类地点词。",
)
SEARCH_GO = Text("Search", "搜索")
SEARCH_EMPTY = Text("Describe the place first, or choose an example.", "请先描述地点，或者点一个例子。")
SEARCH_HITS = Text("Best matches (similarity)", "最匹配的图片（相似度）")
SEARCH_HEAT = Text("A closer look", "仔细看")
SEARCH_LEGEND = Text(
    "Orange: matches the words. Grey: does not. {name}, similarity {score:.2f}",
    "橙色：与文字相符；灰色：不相符。{name}，相似度 {score:.2f}",
)
SEARCH_LIKE_LEGEND = Text("{name}, similarity to your image {score:.2f}", "{name}，与您的图片相似度 {score:.2f}")
SEARCH_MORE = Text("Search by an image, or in your own images", "以图搜图，或在您自己的图片中搜索")
SEARCH_IMAGE = Text("An image to find similar ones", "上传一张图片，找相似的")
SEARCH_LIKE = Text("Find similar", "找相似的图片")
SEARCH_NO_IMAGE = Text("Give an image first.", "请先上传一张图片。")
SEARCH_UPLOAD = Text("Your own images (up to {most}), to search in", "您自己的图片（最多 {most} 张），在其中搜索")
SEARCH_FOLDER = Text("A folder inside {root} (. is all of it)", "{root} 中的一个文件夹（. 表示全部）")
SEARCH_OPEN = Text("Search in this folder", "在此文件夹中搜索")
SEARCH_IN = Text("Searching in {count} images of your own.", "正在您的 {count} 张图片中搜索。")
SEARCH_SKIPPED = Text("{count} could not be read.", "其中 {count} 张无法读取。")
SEARCH_IN_FOLDER = Text("Searching in the {count} images of {folder}.", "正在 {folder} 的 {count} 张图片中搜索。")
SEARCH_IN_SAMPLES = Text("Searching in {count} drawn images.", "正在 {count} 张绘制的图片中搜索。")
SEARCH_SAMPLES = (
    Text("Planes at an airport", "机场上的飞机"),
    Text("River between trees", "树林间的河流"),
    Text("Ships in a port", "港口里的船"),
    Text("Baseball field", "棒球场"),
)

# Check a post
POSTS_TAB = Text("Posts", "查帖子")
POSTS_TITLE = Text("Does this post read like a rumour?", "这条帖子像谣言吗？")
POSTS_INTRO = Text(
    "A guess from wording and image, learned from Chinese posts on Weibo, and what moved it. It checks no facts.",
    "模型从微博帖子中学习，根据措辞和图片作出猜测，并说明依据。它不核查事实。",
)
POSTS_TEXT = Text("Text of the post (Chinese)", "帖子文字")
POSTS_IMAGE = Text("Its image, if it has one", "配图（可不填）")
POSTS_GO = Text("Check", "检查")
POSTS_EMPTY = Text(
    "Write a text or give an image first, or choose an example.", "请先输入文字或上传图片，或者点一个例子。"
)
POSTS_SAMPLES = (
    Text("An urgent warning", "紧急通知"),
    Text("Roads open again", "道路恢复通行"),
    Text("A rare animal", "珍稀动物"),
)
POSTS_MEANING = Text("In English: {meaning}", "英文：{meaning}")
POSTS_LABELS = {"fake": Text("Reads like a rumour", "像谣言"), "real": Text("Reads like news", "像真实消息")}
POSTS_SURE = Text("{share:.1%}, says the model", "模型给出 {share:.1%}")
POSTS_WORDS = Text("Words that moved it", "起作用的词")
POSTS_LEGEND = Text("for this verdict", "支持此判断")
POSTS_AGAINST = Text("against it", "反对此判断")
POSTS_UNREAD = Text("not read: the text is longer than the model reads", "未读：文字超出模型能读的长度")
POSTS_REGIONS = Text("Parts of the image that moved it", "图片中起作用的部分")
POSTS_WHAT_IF = Text("What if ...", "如果……")
POSTS_WITHOUT_IMAGE = Text("without the image", "没有图片")
POSTS_WITHOUT_TEXT = Text("without the text", "没有文字")
POSTS_WITHOUT_WORD = Text("without “{word}”", "没有“{word}”")
POSTS_AS_IS = Text("as it is", "原样")
POSTS_LEAVE_OUT = Text("Leave out a word of your choice", "任选一个词去掉")

# Spot objects
OBJECTS_TAB = Text("Objects", "认目标")
OBJECTS_TITLE = Text("What is in this image?", "图片里有什么？")
OBJECTS_INTRO = Text(
    "The model draws a box around what it recognises, and says how sure it is, from 0 to 1. Move the slider left to "
    "see weaker guesses.",
    "模型把认出的东西框出来，并给出把握。向左拖动滑块，可以看到把握较小的猜测。",
)
OBJECTS_MODEL = Text("Look for", "寻找")
OBJECTS_EVERYDAY = Text("everyday things", "日常物体")
OBJECTS_HIDDEN = Text("hidden animals, e-bikes, people", "隐藏的动物、电动车、行人")
OBJECTS_THRESHOLD = Text("Show what the model is at least this sure of", "只显示把握不低于此值的结果")
OBJECTS_IN_IMAGE = Text("Image", "图片")
OBJECTS_IN_VIDEO = Text("Video", "视频")
OBJECTS_IN_CAMERA = Text("Webcam", "摄像头")
OBJECTS_GIVE = Text("Your image", "您的图片")
OBJECTS_FOUND = Text("What it found", "检测结果")
OBJECTS_GO = Text("Find objects", "开始检测")
OBJECTS_GIVE_VIDEO = Text("Your video (at most {seconds} s are looked at)", "您的视频（最多处理 {seconds} 秒左右）")
OBJECTS_VIDEO_SAMPLE = Text("Use the drawn clip", "使用绘制的短片")
OBJECTS_CAMERA_HINT = Text(
    "Press the camera, then record. Images of your camera go to the computer that runs this page, nowhere else.",
    "点击摄像头图标，然后开始。画面只发送到运行本页面的电脑。",
)
OBJECTS_NOTHING = Text(
    "Nothing that sure. Move the slider left to see weaker guesses.", "没有达到此把握的目标。向左拖动滑块试试。"
)
OBJECTS_NO_IMAGE = Text("Give an image first, or choose an example.", "请先上传图片，或者点一个例子。")
OBJECTS_NO_VIDEO = Text("Give a video first, or use the drawn clip.", "请先上传视频，或者使用绘制的短片。")
OBJECTS_FRAMES = Text("Boxes in {frames} frames together:", "{frames} 帧中的框合计：")
OBJECTS_CUT = Text("The rest of the video was left out.", "视频的其余部分未处理。")

# From a post to the ground
EVENT_TAB = Text("All three", "三合一")
EVENT_TITLE = Text("From a post to the ground", "从一条帖子到现场")
EVENT_INTRO = Text(
    "One post, three questions: does it read like a rumour, what does its image show, and what do such places look "
    "like from above?",
    "一条帖子，三个问题：像谣言吗？配图里有什么？这样的地方从空中看是什么样？",
)
EVENT_PLACE = Text(
    "The place, in English (if empty: the place words of the post)", "地点（英文；不填则取帖子中的地名词）"
)
EVENT_GO = Text("Look into it", "开始")
EVENT_FIRST = Text("1 · Does it read like a rumour?", "1 · 像谣言吗？")
EVENT_SECOND = Text("2 · What does its image show?", "2 · 配图里有什么？")
EVENT_THIRD = Text("3 · Such places from above", "3 · 这样的地方从空中看")
EVENT_NO_IMAGE = Text("The post has no image.", "这条帖子没有配图。")
EVENT_HEAT = Text(
    "Searched for as “{sentence}”. Orange: where the words match.", "检索词：“{sentence}”。橙色：与文字相符的地方。"
)
EVENT_NO_TEXT = Text("Write the text of the post first, or choose an example.", "请先输入帖子文字，或者点一个例子。")
