"""`stmine publish check`: what is fit to be published passes, and each way not to be is named."""

from __future__ import annotations

import json
import pickle
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from documents import ROOT
from helpers import save_tiny_fisvl
from helpers_mttv import save_tiny_mttv
from helpers_sat import save_tiny_sat
from safetensors.torch import load_file, save_file

import stmine_hf
from stmine_hf.cli import main
from stmine_hf.errors import StmineError
from stmine_hf.hub.build import build
from stmine_hf.hub.check import check
from stmine_hf.hub.checks.bare_process import Watch
from stmine_hf.hub.checks.card import LICENSES, TASKS
from stmine_hf.hub.repository import write_manifest

PLACE = "/" + "home/somebody/run"  # in two parts: this file, too, names no machine
SHIPPED = sorted(card.parent for card in (ROOT / "hub_cards").glob("*/README.md"))


@pytest.fixture(scope="module")
def good(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("good")
    return build_at(save_tiny_sat(folder / "model"), folder / "tiny")


@pytest.fixture
def repository(good, tmp_path) -> Path:
    shutil.copytree(good, tmp_path / "tiny")
    return tmp_path / "tiny"


def build_at(model: Path, out: Path) -> Path:
    build(model, out, license="mit")
    return out


def failures(folder: Path) -> dict[str, str]:
    """What a check without loading fails on."""
    return {line.check: line.detail for line in check(folder, load=False).findings if line.outcome == "failed"}


def test_what_a_build_writes_is_fit(repository):
    report = check(repository, load=False)
    assert report.passed and {line.outcome for line in report.findings} == {"ok"}
    assert (report.repo_type, report.measured) == ("model", {})
    assert report.bytes == sum(path.stat().st_size for path in repository.rglob("*") if path.is_file())


def edit(name: str, old: str, new: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        text = (folder / name).read_text(encoding="utf-8")
        assert old in text
        (folder / name).write_text(text.replace(old, new, 1), encoding="utf-8")

    return change


def add(name: str, contents: bytes) -> Callable[[Path], None]:
    return lambda folder: (folder / name).write_bytes(contents) and None


def archive(folder: Path) -> None:
    with zipfile.ZipFile(folder / "weights.dat", "w") as file:
        file.writestr("archive/data.pkl", b"x")


def cut_weights(folder: Path) -> None:
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])


def code(line: str) -> Callable[[Path], None]:
    return lambda folder: (folder / "losses_sat.py").write_text(f"import torch\n{line}\n") and None


FAULTS: dict[str, tuple[Callable[[Path], None], str, str]] = {
    "pickle by name": (add("pytorch_model.bin", b"x"), "no pickles", "pytorch_model.bin is, or may be, a pickle"),
    "pickle in disguise": (add("notes.txt", pickle.dumps({"a": 1})), "no pickles", "notes.txt is, or may be"),
    "archive": (archive, "no pickles", "weights.dat is an archive"),
    "cut weights": (cut_weights, "no pickles", "model.safetensors is no safetensors file, or cut short"),
    "empty file": (add("requirements.txt", b""), "sizes", "requirements.txt is empty"),
    "giant text": (add("log.txt", b"x\n" * 6_000_000), "sizes", "log.txt is a text of 12,000,000 bytes"),
    "path": (add("notes.txt", b"see %s" % PLACE.encode()), "no local paths", f"notes.txt: {PLACE}"),
    "unknown import": (code("import scipy"), "code", "losses_sat.py: line 2 imports scipy"),
    "import in a function": (code("def f():\n    from urllib import request"), "code", "line 3 imports urllib"),
    "own package": (code("from stmine_hf import SatConfig"), "code", "imports stmine_hf"),
    "relative import": (code("from . import modeling_sat"), "code", "only `from .sibling import name`"),
    "missing sibling": (code("from .nowhere import x"), "code", "only `from .sibling import name`"),
    "eval": (code("eval('1')"), "code", "line 2 calls eval()"),
    "torch.load": (code("torch.load('x')"), "code", "line 2 calls torch.load()"),
    "no Python": (code("def"), "code", "losses_sat.py: is no Python"),
    "folder of code": (
        lambda folder: shutil.copytree(ROOT / "modeling" / "sat", folder / "sat") and None,
        "code",
        "only flat files reach",
    ),
    "other repository's code": (
        edit("config.json", '"modeling_sat.SatModel"', '"someone/else--modeling_sat.SatModel"'),
        "code",
        "AutoModel points to another repository's code (someone/else)",
    ),
    "class that is not there": (
        edit("config.json", '"modeling_sat.SatModel"', '"modeling_sat.Satt"'),
        "code",
        "AutoModel: no class Satt in modeling_sat.py",
    ),
    "processor's class": (
        edit("preprocessor_config.json", "image_processing_sat.Sat", "image_processing.Sat"),
        "code",
        "no class SatImageProcessor in image_processing.py",
    ),
    "no pipeline_tag": (edit("README.md", "pipeline_tag: object-detection\n", ""), "card's header", "no pipeline_tag"),
    "no such task": (edit("README.md", "pipeline_tag: object", "pipeline_tag: subject"), "card's header", "no task"),
    "no such license": (
        edit("README.md", "license: mit", "license: MIT2"),
        "card's header",
        "'MIT2' is no license id",
    ),
    "other license": (edit("README.md", "license: mit", "license: other"), "card's header", "needs license_name"),
    "no such language": (edit("README.md", "- en\n", "- Chinese\n"), "card's header", "'Chinese' is no language code"),
    "hidden code": (edit("README.md", "- custom_code\n", ""), "card's header", "tags lack custom_code"),
    "model-index": (
        edit("README.md", "license: mit", "license: mit\nmodel-index: [{name: x, results: [{task: {}}]}]"),
        "card's header",
        "model-index",
    ),
    "unfilled": (edit("README.md", "## Limits", "{{ name }}\n\n## Limits"), "card's text", "not filled in: {{"),
    "dead link": (edit("README.md", "## Limits", "[x](pictures/x.png)\n\n## Limits"), "card's text", "pictures/x.png"),
    "eval results": (
        lambda folder: (folder / ".eval_results").mkdir() or add(".eval_results/x.yaml", b"- value: 1\n")(folder),
        "evaluation results",
        "x.yaml: not as the Hub reads it",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_each_fault_is_found_alone_and_told(fault, repository):
    change, where, told = FAULTS[fault]
    change(repository)
    write_manifest(repository)
    found = failures(repository)
    assert told in found.pop(where)
    assert not found


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (add("more.txt", b"x"), "more.txt is not listed"),
        (add("LICENSE", b"other terms"), "LICENSE has changed"),
        (lambda folder: (folder / "losses_sat.py").unlink(), "losses_sat.py is missing"),
        (lambda folder: (folder / "manifest.json").unlink(), "no manifest.json: build the folder"),
    ],
    ids=["more", "changed", "missing", "no manifest"],
)
def test_files_that_are_not_as_listed_are_found(change, told, repository):
    change(repository)
    assert told in failures(repository)["manifest"]


def test_missing_license_is_found(repository):
    (repository / "LICENSE").unlink()
    write_manifest(repository)
    assert failures(repository) == {
        "license file": "no LICENSE: the terms of the code",
        "card's text": "a link leads nowhere: LICENSE",
    }


def test_unknown_license_is_a_warning(repository):
    edit("README.md", "license: mit", "license: unknown")(repository)
    write_manifest(repository)
    report = check(repository, load=False)
    assert report.passed and [line.check for line in report.findings if line.outcome == "warning"] == ["license"]


@pytest.mark.parametrize(
    ("card", "told"),
    [
        (None, "found no README.md"),
        ("# nothing\n", "expected a header"),
        ("---\nlicense: [\n---\n", "its header is no YAML"),
        ("---\nlicense: mit\n---\n", "does not say what the folder is"),
    ],
)
def test_a_folder_that_is_no_repository_is_refused(card, told, tmp_path):
    if card is not None:
        (tmp_path / "README.md").write_text(card)
    with pytest.raises(StmineError, match=told):
        check(tmp_path)


def write_card(folder: Path, header: str, **files: str) -> Path:
    folder.mkdir()
    text = "\n".join(["# Title", *["What it is, where it comes from, and how it is used."] * 5])
    (folder / "README.md").write_text(f"---\n{header}---\n\n{text}\n")
    for name, contents in files.items():
        (folder / name.replace("__", ".")).write_text(contents)
    return folder


DATASET = "license: mit\npretty_name: Drawn\ntask_categories: [object-detection]\ntags: [x]\n"
SPACE = "title: Demo\nlicense: mit\nsdk: gradio\nsdk_version: 6.0.0\ncolorFrom: blue\napp_file: app.py\n"


def test_data_sets_and_spaces_are_checked_as_such(tmp_path):
    data = write_card(
        tmp_path / "data", DATASET + "configs: [{config_name: a, data_files: train.csv}]\n", train__csv="a"
    )
    space = write_card(
        tmp_path / "space",
        SPACE,
        app__py="import gradio\nimport yaml\nfrom helper import x\n",
        helper__py="x = 1\n",
        requirements__txt="pyyaml>=6\n",
    )
    for folder, kind in ((data, "dataset"), (space, "space")):
        report = check(folder)
        assert report.passed and report.repo_type == kind, report.findings


@pytest.mark.parametrize(
    ("header", "files", "told"),
    [
        (DATASET.replace("pretty_name: Drawn\n", ""), {}, "no pretty_name"),
        (DATASET + "configs: [{data_files: [{split: train, path: 'data/*'}]}]\n", {}, "configs: no file data/*"),
        (DATASET, {"drawn__py": "x = 1\n"}, "drawn.py: loading scripts are no longer run"),
        (SPACE, {}, "no app.py, which it is to run"),
        (SPACE.replace("sdk: gradio", "sdk: grdio"), {"app__py": "x\n"}, "sdk 'grdio' is none of"),
        (SPACE.replace("sdk_version: 6.0.0\n", ""), {"app__py": "x\n"}, "no sdk_version"),
        (SPACE.replace("blue", "teal"), {"app__py": "x\n"}, "colorFrom 'teal' is none of"),
        (SPACE, {"app__py": "import pandas\n"}, "app.py, line 1: pandas is not in requirements.txt"),
    ],
)
def test_faults_of_data_sets_and_spaces(header, files, told, tmp_path):
    (found,) = failures(write_card(tmp_path / "folder", header, **files)).values()
    assert told in found


def test_lists_of_the_hub_hold_what_our_cards_say():
    assert {"apache-2.0", "mit", "cc-by-4.0", "unknown", "other"} <= LICENSES
    assert {"object-detection", "zero-shot-image-classification", "text-classification"} <= TASKS


def test_command_fails_with_exit_code_1_and_says_why(repository, capsys):
    add("pytorch_model.bin", b"x")(repository)
    write_manifest(repository)
    with pytest.raises(SystemExit) as end:
        main(["publish", "check", str(repository), "--json"])
    document = json.loads(capsys.readouterr().out)
    assert end.value.code == 1 and document["passed"] is False
    (loading,) = (line for line in document["findings"] if line["check"] == "loads without stmine_hf")
    assert loading["detail"].startswith("skipped because") and loading["outcome"] == "failed"
    with pytest.raises(SystemExit) as end:
        main(["publish", "check", str(repository)])
    printed = capsys.readouterr().out
    assert end.value.code == 1 and "Failed: no pickles" in printed


def test_push_refuses_what_is_not_fit(repository, capsys, monkeypatch):
    """Before anything is asked of the Hub: there is none here."""
    monkeypatch.setenv("COLUMNS", "200")
    add("pytorch_model.bin", b"x")(repository)
    with pytest.raises(SystemExit) as end:
        main(["publish", "push", str(repository), "--repo", "a/b"])
    printed = capsys.readouterr()
    assert end.value.code == 1 and "not fit to be published" in printed.err and "a pickle" in printed.out


def test_watch_sees_connections_programs_and_files_written_elsewhere(tmp_path):
    watch = Watch.__new__(Watch)  # an audit hook would stay for the whole test run
    watch.own, watch.seen = str(tmp_path / "own"), set()
    for event, given in {
        "open": (str(tmp_path / "own" / "cache"), "w", 0),
        "subprocess.Popen": ("curl", [], None, None),
        "import": ("os", None, None, None, None),
    }.items():
        watch._hear(event, given)
    watch._hear("open", (str(tmp_path / "stolen"), "wb", 0))
    with pytest.raises(ConnectionRefusedError):
        watch._hear("socket.connect", (None, ("192.0.2.1", 80)))
    assert watch.seen == {"a program: curl", f"writing {tmp_path / 'stolen'}", "a connection to ('192.0.2.1', 80)"}


SAVERS = {"fisvl": save_tiny_fisvl, "mttv": save_tiny_mttv, "sat": save_tiny_sat}


@pytest.mark.slow
@pytest.mark.parametrize("method", SAVERS)
def test_every_method_loads_without_the_package_and_answers_as_the_library(method, tmp_path):
    repository = build_at(SAVERS[method](tmp_path / "model"), tmp_path / "tiny")
    report = check(repository)
    assert report.passed and {line.outcome for line in report.findings} == {"ok"}, report.findings
    found = {line.check: line.detail for line in report.findings}
    pipelines = {"fisvl": "zero-shot-image-classification", "mttv": "fake-news-detection", "sat": "object-detection"}
    assert found["pipelines"] == pipelines[method]
    assert report.measured["load_seconds"] > 0 and report.measured["difference"] == 0.0


@pytest.mark.slow
def test_nothing_of_a_repository_is_loaded_in_this_process(repository, monkeypatch):
    """The library's own classes read its files in a sandbox, as its code is run in one."""
    for name in ("SatForObjectDetection", "SatModel", "SatImageProcessor"):
        refuse = classmethod(lambda cls, *words, **options: pytest.fail("loaded here"))
        monkeypatch.setattr(getattr(stmine_hf, name), "from_pretrained", refuse)
    monkeypatch.setattr("safetensors.torch.load_file", lambda *words: pytest.fail("read here"))
    report = check(repository)
    assert {line.check: line.outcome for line in report.findings}["same as the library"] == "ok", report.findings


@pytest.mark.parametrize("answer", [{}, {"classes": 3}, {"classes": {"A": 1}, "missing": [], "unused": 0}])
def test_an_answer_that_the_models_code_has_spoilt_is_a_failure(repository, monkeypatch, answer):
    monkeypatch.setattr("stmine_hf.hub.checks.loading.run_in_sandbox", lambda *words: (answer, ["limits"]))
    found = {line.check: line for line in check(repository).findings}["loads without stmine_hf"]
    assert found.outcome == "failed" and "the answer is damaged" in found.detail


@pytest.mark.slow
def test_code_that_answers_otherwise_and_buffers_that_get_lost_are_found(repository):
    """A buffer that no state holds is not rebuilt after the meta device, and half a logit is missing."""
    head = "class SatForObjectDetection(SatPreTrainedModel):"
    text = (repository / "modeling_sat.py").read_text()
    before, _, after = text.partition(head)
    lost = 'self.register_buffer("lost", torch.ones(3), persistent=False)'
    after = after.replace("self.post_init()", f"{lost}\n        self.post_init()", 1)
    after = after.replace("logits=logits", "logits=logits * 0.5", 1)
    (repository / "modeling_sat.py").write_text(before + head + after)
    weights = load_file(repository / "model.safetensors")
    del weights[sorted(weights)[0]]
    save_file(weights, repository / "model.safetensors", metadata={"format": "pt"})
    write_manifest(repository)
    found = failures_loaded(repository)
    assert "AutoModelForObjectDetection/logits differs" in found["same as the library"]
    assert "AutoModelForObjectDetection: lost differs" in found["same as built on the CPU"]
    assert "lacks" in found["weights complete"]


def failures_loaded(folder: Path) -> dict[str, str]:
    return {line.check: line.detail for line in check(folder).findings if line.outcome == "failed"}


@pytest.mark.slow
def test_code_that_breaks_at_loading_is_told_in_one_line(repository):
    (repository / "losses_sat.py").write_text("raise RuntimeError('broken on purpose')\n")
    write_manifest(repository)
    assert "broken on purpose" in failures_loaded(repository)["loads without stmine_hf"]


@pytest.mark.slow
@pytest.mark.parametrize("shipped", SHIPPED, ids=lambda folder: folder.name)
def test_shipped_repository_is_fit(shipped):
    report = check(shipped)
    assert report.passed, [line for line in report.findings if line.outcome != "ok"]
