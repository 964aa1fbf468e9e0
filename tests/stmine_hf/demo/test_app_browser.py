"""The page of the demo with the shipped models, used as a person would in a real browser."""

from __future__ import annotations

from pathlib import Path

import pytest
from browser import chromium, keep, visit
from PIL import Image

from stmine_hf.demo import samples
from stmine_hf.demo import texts as say
from stmine_hf.demo.app import launch
from stmine_hf.explain.texts import IMAGE, LABELS, WITHOUT_WORD

ROOT = Path(__file__).resolve().parents[3]
pytest.importorskip("gradio", reason='needs Gradio: pip install "stmine-hf[demo]"')
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def address():
    for repository in ("fisvl-lite-rsicd", "mttv-lite-weibo", "sat-coco-small", "sat-indiscernible"):
        if not (ROOT / "hub_cards" / repository / "model.safetensors").is_file():
            pytest.skip(f"needs the shipped checkpoints: no hub_cards/{repository}/model.safetensors in this checkout")
    app, address = launch(wait=False)
    yield address
    app.close(verbose=False)


@pytest.fixture(scope="module")
def browser(address):
    with chromium() as browser:
        yield browser


@pytest.fixture
def page(browser, address):
    with visit(browser, address) as page:
        page.locator("#heat img").wait_for()  # the first answer is there
        yield page


def open_tab(page, *labels: say.Text) -> None:
    for label in labels:
        page.get_by_role("tab", name=label.en).click()


def upload(page, where: str, *files: Path) -> None:
    page.locator(f"{where} input[type=file]").set_input_files(list(files))


def source(page, image: str) -> str:
    return page.locator(f"{image} img").first.get_attribute("src")


def wait_for_another(page, image: str, than: str) -> None:
    page.wait_for_function(
        "([image, than]) => document.querySelector(image + ' img') && "
        "document.querySelector(image + ' img').src !== than",
        arg=[image, page.evaluate("url => new URL(url, location).href", than)],
    )


def test_search_by_a_sentence_shows_ships_and_where_they_are(page, tmp_path):
    assert page.locator("#hits img").count() == 6
    before, heat = source(page, "#hits"), source(page, "#heat")
    page.locator("#sentence textarea").fill("several ships are docked at a port")
    page.locator("#sentence textarea").press("Enter")
    wait_for_another(page, "#heat", heat)
    assert source(page, "#hits") != before
    assert "port_" in page.locator("#heat-legend").inner_text()
    heat = source(page, "#heat")
    page.locator("#hits button.thumbnail-item").nth(2).click()
    wait_for_another(page, "#heat", heat)
    keep(page, "search", tmp_path)


def test_search_by_an_image_and_in_images_of_ones_own(page, tmp_path):
    from stmine_hf.data.toy.toy_scenes import draw_scene

    files = []
    for kind in ("airport", "port", "river", "baseballfield"):
        draw_scene(kind, 77)[0].save(tmp_path / f"my_{kind}.png")
        files.append(tmp_path / f"my_{kind}.png")
    page.get_by_text(say.SEARCH_MORE.en).click()
    upload(page, "#own", *files)
    page.get_by_text("Searching in 4 images of your own.").wait_for()
    page.get_by_text("my_airport.png, similarity").wait_for()  # the sentence of before, asked again at once
    assert page.locator("#hits img").count() == 4
    upload(page, "#like", files[1])
    page.locator("#like img").wait_for()
    page.locator("#find-like").click()
    page.get_by_text("my_port.png, similarity to your image").wait_for()
    keep(page, "search_own", tmp_path)
    page.get_by_text("中文").click()
    page.get_by_text("my_port.png，与您的图片相似度").wait_for()
    page.get_by_text(say.SEARCH_IN("zh", count=4)).wait_for()


def test_search_in_chinese_reads_its_place_words(page):
    heat = source(page, "#heat")
    page.locator("#sentence textarea").fill("机场上的红色屋顶")
    page.locator("#search").click()
    page.locator("#heat-legend").get_by_text(say.SEARCH_READ.en.format(sentence="an airport with planes")).wait_for()
    assert source(page, "#heat") != heat
    page.locator("#sentence textarea").fill("人工智能")
    page.locator("#search").click()
    page.get_by_text(say.SEARCH_UNREAD.en).wait_for()


def test_what_is_no_search_is_told(page, tmp_path):
    page.locator("#sentence textarea").fill("")
    page.locator("#search").click()
    page.get_by_text(say.SEARCH_EMPTY.en).wait_for()
    assert page.locator("#hits img").count() == 6  # the answer of before stays
    page.get_by_text(say.SEARCH_MORE.en).click()
    text, huge = tmp_path / "text.png", tmp_path / "huge.png"
    text.write_text("no image at all")
    Image.new("1", (9000, 9000)).save(huge)
    upload(page, "#like", text)
    page.get_by_text("not an image, or of a kind that cannot be read").wait_for()
    upload(page, "#like", huge)
    page.get_by_text("40 megapixels are allowed").wait_for()
    page.locator("#hits img").first.wait_for(state="detached")  # no answer of before beside a refused image
    keep(page, "search_refused", tmp_path)


def test_post_gets_a_verdict_with_reasons(page, tmp_path):
    open_tab(page, say.POSTS_TAB)
    page.get_by_role("tabpanel").get_by_role("button", name=say.POSTS_SAMPLES[0].en).locator("visible=true").click()
    page.locator("#prediction").get_by_text(LABELS["fake"].en).first.wait_for()
    page.locator("#regions img").wait_for()
    assert page.locator("#prediction .words span").count() > 10
    page.locator("#leave-out input").click()
    page.locator("#leave-out [role=option]").nth(2).click()
    page.locator("#without .bars").wait_for()
    keep(page, "post", tmp_path)
    page.get_by_text("中文").click()
    page.locator("#prediction").get_by_text(LABELS["fake"].zh).first.wait_for()
    page.locator("#without").get_by_text(WITHOUT_WORD.zh[:2]).wait_for()
    page.get_by_text("In English: Urgent!").locator("visible=true").wait_for(state="detached")
    keep(page, "post_zh", tmp_path)


def test_own_post_without_an_image_and_an_empty_one(page, tmp_path):
    open_tab(page, say.POSTS_TAB)
    page.locator("#regions img").wait_for()
    page.locator("#post-image").get_by_label("Remove Image").click()
    page.locator("#post-text textarea").fill("")
    page.get_by_text("In English: Roads").locator("visible=true").wait_for(
        state="detached"
    )  # says nothing of this text
    page.locator("#post-go").click()
    page.get_by_text(say.POSTS_EMPTY.en).wait_for()
    page.locator("#post-text textarea").fill("<b>记者</b>从市交通局获悉")
    page.locator("#post-go").click()
    page.locator("#prediction .words").get_by_text("<b>").first.wait_for()  # shown as it was written
    assert page.locator("#prediction .words b").count() == 0
    page.get_by_role("heading", name=IMAGE.en).wait_for(state="hidden")  # there is no image
    keep(page, "post_text_alone", tmp_path)


def test_image_gets_boxes_that_follow_the_slider(page, tmp_path):
    open_tab(page, say.OBJECTS_TAB)
    page.locator("#counts").get_by_text("stop sign").wait_for()
    boxes = source(page, "#boxes")
    page.locator("#threshold input[type=number]").fill("0.9")
    page.locator("#threshold input[type=number]").blur()
    page.locator("#counts").get_by_text(say.OBJECTS_NOTHING.en).wait_for()
    wait_for_another(page, "#boxes", boxes)
    page.locator("#threshold input[type=number]").fill("0.2")
    page.locator("#threshold input[type=number]").blur()
    page.locator("#counts").get_by_text("stop sign").wait_for()
    keep(page, "objects", tmp_path)
    boxes = source(page, "#boxes")
    samples.street().transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(tmp_path / "street.jpg")
    page.locator("#image").get_by_label("Remove Image").click()
    upload(page, "#image", tmp_path / "street.jpg")
    wait_for_another(page, "#boxes", boxes)
    page.locator("#drawn button.thumbnail-item").nth(1).click()
    page.locator("#counts").get_by_text("camouflaged object").wait_for()
    keep(page, "objects_hidden", tmp_path)


def test_video_gets_boxes(page, tmp_path):
    open_tab(page, say.OBJECTS_TAB, say.OBJECTS_IN_VIDEO)
    page.locator("#clip").click()
    page.locator("#video-boxes video").wait_for()
    page.wait_for_function("() => document.querySelector('#video-boxes video').readyState >= 2")
    page.locator("#video-counts span").first.wait_for()
    keep(page, "objects_video", tmp_path)
    page.locator("#video").get_by_label("Clear").first.click()
    (tmp_path / "broken.mp4").write_text("no video")
    upload(page, "#video", tmp_path / "broken.mp4")
    page.locator("#video").get_by_label("Clear").first.wait_for()
    page.locator("#detect-video").click()
    told = page.get_by_test_id("toast-body").filter(has_text="broken.mp4").inner_text()
    assert told.count("broken.mp4") == 1 and "stmine-demo" not in told, told


def test_webcam_gets_boxes(page, tmp_path):
    open_tab(page, say.OBJECTS_TAB, say.OBJECTS_IN_CAMERA)
    page.get_by_text("Click to Access Webcam").click()
    page.locator("#camera").get_by_text("Record").click()
    page.locator("#camera-boxes img").wait_for()
    keep(page, "objects_webcam", tmp_path)


def test_event_is_looked_at_by_all_three(page, tmp_path):
    open_tab(page, say.EVENT_TAB)
    page.locator("#ground img").nth(2).wait_for()
    page.locator("#event-boxes img").wait_for()
    keep(page, "event", tmp_path)
    before = source(page, "#ground")
    page.locator("#place textarea").fill("a baseball field beside green grass")
    page.locator("#event-go").click()
    wait_for_another(page, "#ground", before)
    assert LABELS["real"].en in page.locator("#event-prediction").inner_text()
    page.get_by_text("中文").click()
    page.locator("#event-prediction").get_by_text(LABELS["real"].zh).wait_for()
    keep(page, "event_zh", tmp_path)


def test_browser_that_prefers_chinese_gets_it(browser, address, tmp_path):
    with visit(browser, address, width=390, height=844, language="zh-CN") as page:
        page.get_by_role("tab", name=say.SEARCH_TAB.zh).wait_for()
        page.locator("#heat img").wait_for()
        keep(page, "telephone_zh", tmp_path)


@pytest.mark.parametrize("language", ["en", "zh"])
@pytest.mark.parametrize("width", [390, 320])
def test_every_tab_fits_a_telephone(browser, address, tmp_path, language, width):
    with visit(browser, address, width=width, height=844, language={"en": "en-GB", "zh": "zh-CN"}[language]) as page:
        page.get_by_role("tab", name=say.SEARCH_TAB(language)).wait_for()
        page.locator("#heat img").wait_for()
        assert page.locator("#top").bounding_box()["height"] < 200  # no gap above the tabs
        for tab, answer in (
            (say.SEARCH_TAB, "#heat img"),
            (say.POSTS_TAB, "#regions img"),
            (say.OBJECTS_TAB, "#boxes img"),
            (say.OBJECTS_IN_VIDEO, "#clip"),
            (say.OBJECTS_IN_CAMERA, "#camera"),
            (say.EVENT_TAB, "#ground img >> nth=2"),
        ):
            page.get_by_role("tab", name=tab(language)).click()
            page.locator(answer).wait_for()
            assert page.evaluate("document.documentElement.scrollWidth") <= width, tab.en
            keep(page, f"telephone_{language}_{width}_{tab.en.lower().replace(' ', '_')}", tmp_path)
