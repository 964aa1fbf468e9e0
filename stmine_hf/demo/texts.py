"""What the demo says on its page and in its report, in English and Chinese."""

from __future__ import annotations

from ..explain.texts import Text
from ..inference.scope import NO_TEXT, NOTHING_FITS, OTHER_SCRIPT, TOO_SHORT

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

# Search
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
SEARCH_READ = Text(
    "The model only understands English; searched for: “{sentence}”", "模型只懂英文，检索词：“{sentence}”"
)
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

# Posts
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
POSTS_LEAVE_OUT = Text("Leave out a word of your choice", "任选一个词去掉")

# Objects
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
EVENT_GO = Text("Start", "开始")
EVENT_FIRST = Text("1 · Does it read like a rumour?", "1 · 像谣言吗？")
EVENT_SECOND = Text("2 · What does its image show?", "2 · 配图里有什么？")
EVENT_THIRD = Text("3 · Such places from above", "3 · 这样的地方从空中看")
EVENT_NO_IMAGE = Text("The post has no image.", "这条帖子没有配图。")
EVENT_HEAT = Text(
    "Searched for as “{sentence}”. Orange: where the words match.", "检索词：“{sentence}”。橙色：与文字相符的地方。"
)
EVENT_NO_TEXT = Text("Write the text of the post first, or choose an example.", "请先输入帖子文字，或者点一个例子。")

# The report
REPORT_SUBTITLE = Text(
    "Three small models at work on this computer, without a network. All images and posts here are made up for this "
    "page{except_own}.",
    "三个小模型在这台电脑上离线运行的结果。本页的图片和帖子都是为演示而生成的{except_own}。",
)
REPORT_EXCEPT_OWN = Text(", but for those of your folder", "，您文件夹里的图片除外")

REPORT_SEARCH = Text("1. Describe a place, see it from above", "1. 描述一个地方，从空中找到它")
REPORT_SEARCH_HOW = Text(
    "The best of {count} images from above for a sentence. Beside each: <b>orange</b> where the image is what the "
    "words say, grey where it is not.",
    "为每句话从 {count} 张俯视图片中选出最符合的几张。旁边一张中，<b>橙色</b>处与文字相符，灰色处不符。",
)
REPORT_SEARCH_SKIPPED = Text("Left out, since they cannot be read: {count}.", "无法读取而略过的图片：{count} 张。")
REPORT_SIMILARITY = Text("similarity {score:.2f}", "相似度 {score:.2f}")
REPORT_READ_AS = Text(
    "(the model only understands English; searched for: “{sentence}”)", "（模型只懂英文：“{sentence}”）"
)

REPORT_POSTS = Text("2. Does this post read like a rumour?", "2. 这条帖子像谣言吗？")
REPORT_POSTS_HOW = Text(
    "Each word and each part of the image is left out once, and the post judged again. What is "
    "<b class=for>red</b> supports the verdict, <b class=against>blue</b> speaks against it.",
    "逐一拿掉每个词和图片的每一块，再判断一次。<b class=for>红色</b>支持结论，<b class=against>蓝色</b>与之相反。",
)
REPORT_NO_PROOF = Text(
    "A verdict is not proof. The model has never heard of the event; it has learnt how debunked rumours and news on "
    "Weibo were worded.",
    "结论不是证据。模型并不了解事件本身，它只学过微博上被辟谣的帖子和新闻各是怎么写的。",
)

REPORT_OBJECTS = Text("3. Spot objects, even well hidden ones", "3. 找出目标，哪怕藏得很好")
REPORT_OBJECTS_HOW = Text(
    "Two models of under a million parameters, small enough for a phone: one knows everyday things, the other looks "
    "for what hides. Each box bears a name and how sure the model is.",
    "两个不到一百万参数的模型，小到可以放进手机：一个认识日常物品，一个专找隐藏的目标。每个框标有名称和把握。",
)
REPORT_STREET = Text("Everyday things in a drawn street", "一条画出来的街道上的日常物品")
REPORT_HIDDEN = Text(
    "Find the animals yourself first; then look at the boxes (the model misses some, too)",
    "先自己找找动物，再看右边的框（模型也会漏掉一些）",
)
REPORT_VIDEO = Text("A video: {frames} frames, {boxes} boxes", "一段视频：{frames} 帧，{boxes} 个框")
REPORT_FOUND = Text("Found: {what}", "找到：{what}")
REPORT_NOTHING = Text("Nothing found.", "没有找到。")

REPORT_EVENT = Text("4. From a post to the ground: all three together", "4. 从帖子到地面：三个模型合作")
REPORT_EVENT_HOW = Text(
    "One post: does it read like a rumour, what is in its image, and what do places like the one it names look like "
    "from above?",
    "一条帖子：它像谣言吗？图里有什么？它说的这类地方从空中看是什么样子？",
)
REPORT_EVENT_VERDICT = Text("Does it read like a rumour?", "像谣言吗？")
REPORT_EVENT_OBJECTS = Text("What is in its image?", "图里有什么？")
REPORT_EVENT_GROUND = Text(
    "Such places from above, searched for as “{sentence}”", "这样的地方从空中看（检索词：“{sentence}”）"
)

REPORT_FOOTER = Text(
    "Made in {seconds:.0f} s on this computer with {models}. The models are small and make mistakes. To try your own: "
    "<code>stmine demo</code> opens the page to play with, <code>stmine demo --once --images my_images --query "
    '"a bridge over a river"</code> writes this one with your images.',
    "在这台电脑上用 {seconds:.0f} 秒做成，所用模型：{models}。模型很小，会出错。用自己的图片试试："
    "<code>stmine demo</code> 打开可以操作的页面，<code>stmine demo --once --images my_images "
    '--query "a bridge over a river"</code> 用您的图片生成本页。',
)

# Warnings beside an answer, by kind; English is in the warning itself
WARNINGS = {
    OTHER_SCRIPT: Text(
        "Only {share:.0%} of the letters are in the script that the model was trained on.",
        "只有 {share:.0%} 的文字属于模型训练时所用的文字，结果意义不大。",
    ),
    TOO_SHORT: Text(
        "The text has only {count} letters, less than nearly all training texts.",
        "文字只有 {count} 个字，比训练时几乎所有帖子都短，结果意义不大。",
    ),
    NO_TEXT: Text(
        "There is no text, and the model was trained on posts with a text.",
        "没有文字；模型是用带文字的帖子训练的，结果意义不大。",
    ),
    NOTHING_FITS: Text(
        "No good match: the best image scores no higher than it would for an unrelated query.",
        "没有很符合的图片：最好的一张也不比毫无意义的词更符合。",
    ),
}

# Classes of the two detectors
_CLASSES = {
    "person": "人", "bicycle": "自行车", "car": "汽车", "motorcycle": "摩托车", "airplane": "飞机", "bus": "公交车",
    "train": "火车", "truck": "卡车", "boat": "船", "traffic light": "红绿灯", "fire hydrant": "消防栓",
    "stop sign": "停车标志", "parking meter": "停车计时器", "bench": "长椅", "bird": "鸟", "cat": "猫", "dog": "狗",
    "horse": "马", "sheep": "羊", "cow": "牛", "elephant": "大象", "bear": "熊", "zebra": "斑马",
    "giraffe": "长颈鹿", "backpack": "背包", "umbrella": "雨伞", "handbag": "手提包", "tie": "领带",
    "suitcase": "行李箱", "frisbee": "飞盘", "skis": "滑雪板", "snowboard": "单板滑雪板", "sports ball": "球",
    "kite": "风筝", "baseball bat": "棒球棒", "baseball glove": "棒球手套", "skateboard": "滑板",
    "surfboard": "冲浪板", "tennis racket": "网球拍", "bottle": "瓶子", "wine glass": "酒杯", "cup": "杯子",
    "fork": "叉子", "knife": "刀", "spoon": "勺子", "bowl": "碗", "banana": "香蕉", "apple": "苹果",
    "sandwich": "三明治", "orange": "橙子", "broccoli": "西兰花", "carrot": "胡萝卜", "hot dog": "热狗",
    "pizza": "披萨", "donut": "甜甜圈", "cake": "蛋糕", "chair": "椅子", "couch": "沙发", "potted plant": "盆栽",
    "bed": "床", "dining table": "餐桌", "toilet": "马桶", "tv": "电视", "laptop": "笔记本电脑", "mouse": "鼠标",
    "remote": "遥控器", "keyboard": "键盘", "cell phone": "手机", "microwave": "微波炉", "oven": "烤箱",
    "toaster": "烤面包机", "sink": "水槽", "refrigerator": "冰箱", "book": "书", "clock": "钟", "vase": "花瓶",
    "scissors": "剪刀", "teddy bear": "玩具熊", "hair drier": "吹风机", "toothbrush": "牙刷",
    "camouflaged object": "隐藏的动物", "ebike": "电动车", "infrared small target": "红外小目标",
}  # fmt: skip


def class_name(name: str, language: str) -> str:
    """A class of a detector in a language, as far as it is known here."""
    return _CLASSES.get(name, name) if language == "zh" else name
