"""The page of the demo with tiny models: what it serves and refuses, and a first look at it in a browser."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
from browser import chromium, keep, visit
from helpers import tiny_fisvl
from helpers_mttv import tiny_mttv
from helpers_sat import tiny_sat
from PIL import Image

from stmine_hf.data.toy.toy_scenes import write_scenes
from stmine_hf.demo import limits
from stmine_hf.demo import texts as say
from stmine_hf.demo.app import build_app, launch
from stmine_hf.demo.objects import THRESHOLD
from stmine_hf.demo.tools import Models, Once, Tools
from stmine_hf.errors import StmineError

pytest.importorskip("gradio", reason='needs Gradio: pip install "stmine-hf[demo]"')


@pytest.fixture(scope="module")
def scenes(tmp_path_factory) -> Path:
    return write_scenes(tmp_path_factory.mktemp("scenes"), count=6, size=64)


@pytest.fixture(scope="module")
def served(scenes):
    """The page and its address."""
    models = Models(fisvl=tiny_fisvl(), mttv=tiny_mttv(), sat=tiny_sat(), hidden=tiny_sat(seed=1))
    app, address = launch(models, folder=scenes, port=None, wait=False)
    yield app, address
    app.close(verbose=False)


def test_the_page_is_built_before_pytorch_is_imported():
    """PyTorch and transformers take longer to import than all else that the page needs."""
    code = (
        "import sys; from stmine_hf.demo.app import build_app; build_app(); "
        "print([name for name in ('torch', 'transformers', 'datasets') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def join(app, address: str, name: str, data: list) -> list[dict]:
    """The messages that a user gets who sends `data` to the handler called `name`."""
    (number,) = [one["id"] for one in app.config["dependencies"] if one["api_name"] == name][:1]
    job = {"data": data, "fn_index": number, "session_hash": "user", "event_data": None, "trigger_id": None}
    httpx.post(f"{address}gradio_api/queue/join", json=job).raise_for_status()
    messages = []
    with httpx.stream("GET", f"{address}gradio_api/queue/data?session_hash=user", timeout=60) as answer:
        for line in answer.iter_lines():
            if line.startswith("data:"):
                messages.append(json.loads(line[5:]))
                if messages[-1]["msg"] in ("process_completed", "close_stream"):
                    break
    return messages


@pytest.mark.parametrize(
    "path", ["/etc/hostname", "../../../../etc/hostname", "pyproject.toml", "%2e%2e/pyproject.toml"]
)
def test_no_file_of_the_machine_is_served(served, path):
    _, address = served
    assert httpx.get(f"{address}gradio_api/file={path}").status_code in (403, 404)


def test_folder_that_may_be_searched_is_not_served(served, scenes):
    _, address = served
    image = next(scenes.glob("*.jpg"))
    assert httpx.get(f"{address}gradio_api/file={image}").status_code in (403, 404)


def test_forged_path_is_refused_without_a_word_of_the_inside(served):
    app, address = served
    forged = {"path": "/etc/hostname", "meta": {"_type": "gradio.FileData"}}
    messages = join(app, address, "find_like", [forged, None, "en"])
    assert messages[-1]["msg"] == "process_completed" and not messages[-1]["success"]
    assert not re.search("hostname|Traceback|site-packages", json.dumps(messages))


def test_folder_outside_is_refused(served):
    app, address = served
    messages = join(app, address, "search_folder", ["../..", "planes", "en"])
    told = [message["log"] for message in messages if message["msg"] == "log"]
    assert told and "outside" in told[0]


def test_too_large_file_is_refused(served):
    _, address = served
    files = {"files": ("large.png", bytes(limits.MAX_VIDEO_BYTES + 1))}
    assert httpx.post(f"{address}gradio_api/upload", files=files, timeout=60).status_code == 413


def test_nothing_is_told_to_strangers(served):
    app, address = served
    assert not app.analytics_enabled and not app.share
    assert httpx.get(f"{address}gradio_api/info").json()["named_endpoints"] == {}
    assert httpx.get(f"{address}monitoring/summary").status_code in (403, 404)


def test_long_text_is_refused_by_the_server_too(served):
    app, address = served
    messages = join(app, address, "find", ["plane " * 100, None, "en"])
    told = [message["log"] for message in messages if message["msg"] == "log"]
    assert told and "300 are allowed" in told[0]


def test_first_look_on_a_telephone(served, scenes, tmp_path):
    _, address = served
    with chromium() as browser, visit(browser, address, width=390, height=844) as page:
        page.locator("#heat img").wait_for()
        assert page.locator("#hits img").count() == 6
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
        keep(page, "telephone_search", tmp_path)
        text = tmp_path / "text.png"
        text.write_text("no image")
        page.get_by_text(say.SEARCH_MORE.en).click()
        page.locator("#like input[type=file]").set_input_files(text)
        page.get_by_text("The image cannot be used").wait_for()
        page.locator("#like input[type=file]").set_input_files(next(scenes.glob("*.jpg")))
        page.locator("#like img").wait_for()
        page.locator("#find-like").click()
        page.get_by_text("similarity to your image").wait_for()
        assert page.locator("#top").bounding_box()["height"] < 200  # no gap above the tabs
        page.get_by_text("中文").click()
        for label in (say.POSTS_TAB, say.OBJECTS_TAB, say.EVENT_TAB):
            page.get_by_role("tab", name=label.zh).click()
            assert page.evaluate("document.documentElement.scrollWidth") <= 390
        keep(page, "telephone_event_zh", tmp_path)


def test_every_text_is_said_in_both_languages():
    texts = {name: value for name, value in vars(say).items() if isinstance(value, say.Text)}
    assert len(texts) > 50
    for name, text in texts.items():
        assert re.search("[a-z]", text.en) and not re.search("[\u4e00-\u9fff]", text.en), name
        assert re.search("[\u4e00-\u9fff]", text.zh), name
        assert sorted(re.findall(r"\{\w+", text.en)) == sorted(re.findall(r"\{\w+", text.zh)), name


def test_page_starts_in_the_language_asked_for():
    labels = [one["props"].get("label") for one in build_app(Tools(), language="zh").config["components"]]
    assert say.POSTS_TAB.zh in labels and say.POSTS_TAB.en not in labels


def test_unknown_language_and_missing_folder_are_refused(tmp_path):
    with pytest.raises(StmineError, match="expected en or zh"):
        build_app(language="fr")
    with pytest.raises(StmineError, match="expected a folder of images"):
        launch(folder=tmp_path / "none")
    for name in ("empty", "texts"):
        (tmp_path / name).mkdir()
    (tmp_path / "texts" / "readme.txt").write_text("no image")
    for name in ("empty", "texts"):
        with pytest.raises(StmineError, match=f"{name}: expected images in this folder, found none"):
            launch(folder=tmp_path / name)


def test_missing_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "gradio", None)
    with pytest.raises(StmineError, match=r'pip install "stmine-hf\[demo\]"'):
        build_app()


def test_users_are_told_what_they_can_mend_and_nothing_else(monkeypatch, caplog):
    import gradio as gr

    from stmine_hf.demo import page

    told: list[str] = []
    monkeypatch.setattr(gr, "Warning", lambda message, **_: told.append(message))

    def mendable():
        raise StmineError("<b>too</b> large")

    def broken():
        raise RuntimeError("secret of the machine")

    page.for_users(mendable)()
    page.for_users(broken)()
    assert told == ["&lt;b&gt;too&lt;/b&gt; large", say.BROKEN]
    assert "secret of the machine" in caplog.text


def test_image_of_a_camera_is_not_decoded_before_its_size_is_known():
    import gradio as gr

    from stmine_hf.demo.page import image_in

    with pytest.raises(gr.Error):
        image_in("data:image/png;base64,bm8gcGljdHVyZQ==")
    with pytest.raises(gr.Error):
        image_in("data:image/png;base64," + "A" * (2 * limits.MAX_FILE_BYTES))
    with pytest.raises(StmineError, match="megapixels are allowed"):
        limits.checked_image(Image.new("1", (9000, 9000)))


def test_once_makes_each_thing_once_and_forgets_failures():
    once, made = Once(), []

    def make():
        made.append(len(made))
        if len(made) == 1:
            raise StmineError("not yet")
        return made[-1]

    with pytest.raises(StmineError):
        once("thing", make)
    assert [once("thing", make), once("thing", make)] == [1, 1]


def test_detections_are_kept_for_the_default_threshold_alone():
    tools = Tools(Models(sat=tiny_sat(), hidden=tiny_sat(seed=1)))
    again = [tools.spotted(0, threshold) for threshold in (THRESHOLD, 0.31, 0.32, THRESHOLD)]
    assert again[0] is again[3] and again[1] is not again[2]
    kept = len(tools._once._made)
    for step in range(20):
        tools.spotted(0, 0.5 + step / 1000)
    assert len(tools._once._made) == kept


def test_a_refused_upload_takes_the_old_result_with_it(served, tmp_path):
    _, address = served
    with chromium() as browser, visit(browser, address) as page:
        page.get_by_role("tab", name=say.OBJECTS_TAB.en).click()
        page.locator("#boxes img").wait_for()
        text = tmp_path / "text.png"
        text.write_text("no image")
        page.locator("#image").get_by_label("Remove Image").click()
        page.locator("#image input[type=file]").set_input_files(text)
        page.get_by_text("The image cannot be used").first.wait_for()
        page.locator("#boxes img").wait_for(state="detached")


def test_space_runs_this_page():
    """Its app.py imports without serving anything; its requirements are those of the package."""
    import runpy

    folder = Path(__file__).resolve().parents[3] / "hub_cards" / "space"
    assert runpy.run_path(str(folder / "app.py"))["launch"] is launch
