"""`stmine publish push` against a Hub on this machine: one commit, resumed uploads, tags; loading from there."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from documents import ROOT, commands
from helpers_sat import save_tiny_sat
from hub_server import HubServer
from PIL import Image
from transformers.utils import logging

from stmine_hf import SatForObjectDetection, SatImageProcessor
from stmine_hf.cli import main
from stmine_hf.hub.build import build
from stmine_hf.hub.repository import write_manifest

REPO = "stmine-hf/tiny"
CARD = "---\nlibrary_name: transformers\nlicense: mit\n---\n# tiny\n"

# Runs several `stmine publish` commands in one process; prints code, output and errors of each as JSON. A word such as
# HF_TOKEN=... is a variable of this command and of those behind it.
CLIENT = """
import contextlib, io, json, os, sys
from stmine_hf.cli import main
answers = []
for words in json.loads(sys.argv[1]):
    if "=" in words[0]:
        name, _, value = words.pop(0).partition("=")
        os.environ[name] = value
    out, err, code = io.StringIO(), io.StringIO(), 0
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            main(["publish", *words])
        except SystemExit as end:
            code = end.code or 0
    answers.append([code, out.getvalue(), err.getvalue()])
print(json.dumps(answers))
"""


class Answer(NamedTuple):
    code: int
    out: str
    err: str

    @property
    def json(self) -> dict:
        assert self.code == 0, self.err
        return json.loads(self.out)


def publish(environment: dict[str, str], *commands: list[object]) -> list[Answer]:
    """What `stmine publish WORDS` answers to each of the commands, in one process against the Hub."""
    words = json.dumps([[str(word) for word in command] for command in commands])
    done = subprocess.run(
        [sys.executable, "-c", CLIENT, words],
        env={**os.environ, "COLUMNS": "200", **environment},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return [Answer(*answer) for answer in json.loads(done.stdout.splitlines()[-1])]


@pytest.fixture
def folder(tmp_path) -> Path:
    """A repository of two texts and two contents for LFS."""
    made = tmp_path / "tiny"
    (made / "pictures").mkdir(parents=True)
    (made / "README.md").write_text(CARD)
    (made / "config.json").write_text("{}\n")
    (made / "model.safetensors").write_bytes(b"\0weights" * 1000)
    (made / "pictures" / "a.png").write_bytes(b"\x89PNG\0image")
    write_manifest(made)
    return made


@pytest.fixture
def environment(hub, tmp_path) -> dict[str, str]:
    return hub.environment(tmp_path / "home")


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def sha256(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def test_a_folder_becomes_one_commit_and_a_tag_and_the_second_push_makes_none(hub, environment, folder):
    words = ["push", folder, "--repo", REPO, "--tag", "v1", "--no-check"]
    planned, first, second, text = publish(
        environment, [*words, "--dry-run", "--json"], [*words, "--json"], [*words, "--json"], words
    )
    assert planned.json["exists"] is False and "commit" not in planned.json
    states = {file["path"]: (file["state"], file["bytes"]) for file in planned.json["files"]}
    assert states == {name: ("new", len(data)) for name, data in contents(folder).items()}

    assert hub.files(REPO) == hub.files(REPO, "v1") == contents(folder)
    repository = hub.repositories["model", REPO]
    assert [commit.title.partition(" with")[0] for commit in repository.commits.values()] == [
        "initial commit",
        "Publish tiny",
    ]
    assert first.json["commit"] == repository.branches["main"] == repository.tags["v1"]
    assert first.json["url"] == f"{hub.url}/{REPO}/tree/v1" and not repository.private
    assert {*hub.uploads()} == {sha256(folder / name) for name in ("model.safetensors", "pictures/a.png")}
    assert len(hub.uploads()) == 2

    assert second.json["commit"] == first.json["commit"]
    assert {file["state"] for file in second.json["files"]} == {"same"}
    assert "Nothing new, no commit made" in text.out and "revision='v1'" in text.out


def test_only_what_changed_is_sent_and_only_what_a_build_listed_is_removed(hub, environment, folder):
    publish(environment, ["push", folder, "--repo", REPO, "--no-check"])
    repository = hub.repositories["model", REPO]
    head = repository.at("main")
    by_hand = {**head.files, "discussion.md": head.files["config.json"]}
    repository.commit("main", "a file by somebody else", by_hand)
    sent = len(hub.uploads())

    (folder / "pictures" / "a.png").unlink()
    (folder / "config.json").write_text('{"new": true}\n')
    write_manifest(folder)
    words = ["push", folder, "--repo", REPO, "--no-check"]
    planned, done = publish(environment, [*words, "--dry-run"], [*words, "--json"])
    for path, state in {"config.json": "changed", "pictures/a.png": "removed", "model.safetensors": "same"}.items():
        assert re.search(rf"{re.escape(path)} .* {state}\b", planned.out), planned.out
    assert "discussion.md" not in planned.out and "Nothing was sent." in planned.out
    assert done.code == 0 and len(repository.commits) == 4
    assert hub.files(REPO) == {**contents(folder), "discussion.md": b"{}\n"}
    assert len(hub.uploads()) == sent


def test_an_interrupted_upload_is_taken_up_again(hub, environment, folder):
    """The process is killed while the weights are on their way; the image has arrived by then."""
    weights, image = sha256(folder / "model.safetensors"), sha256(folder / "pictures" / "a.png")
    hub.hold.add(weights)
    words = [sys.executable, "-m", "stmine_hf.cli", "publish", "push", str(folder), "--repo", REPO, "--no-check"]
    client = subprocess.Popen(words, env={**os.environ, **environment}, stdout=subprocess.DEVNULL)
    try:
        assert hub.holding.wait(60)
        deadline = 600
        while image not in hub.stored and (deadline := deadline - 1):
            client.poll()
            hub.released.wait(0.05)
    finally:
        client.kill()
        client.wait()
    assert {*hub.stored} == {image} and hub.files(REPO) == {}

    hub.hold.clear()
    hub.requests.clear()
    (again,) = publish(environment, ["push", folder, "--repo", REPO, "--no-check", "--json"])
    assert again.json["commit"] == hub.repositories["model", REPO].branches["main"]
    assert hub.files(REPO) == contents(folder) and hub.uploads() == [weights]


def test_branches_private_repositories_and_other_kinds(hub, environment, folder, tmp_path):
    for kind, header in (("dataset", "pretty_name: tiny\n"), ("space", "sdk: gradio\napp_file: app.py\n")):
        made = tmp_path / kind
        made.mkdir()
        (made / "README.md").write_text(f"---\n{header}license: mit\n---\n")
    private = ["--private", "--no-check", "--json"]
    answers = publish(
        environment,
        ["push", folder, "--repo", REPO, *private],
        ["push", folder, "--repo", REPO, "--revision", "next", *private],
        ["push", tmp_path / "dataset", "--repo", REPO, *private],
        ["push", tmp_path / "space", "--repo", "tester/demo", *private],
    )
    urls = [answer.json["url"] for answer in answers]
    assert [url.removeprefix(hub.url) for url in urls] == [
        f"/{REPO}/tree/main",
        f"/{REPO}/tree/next",
        f"/datasets/{REPO}/tree/main",
        "/spaces/tester/demo/tree/main",
    ]
    model = hub.repositories["model", REPO]
    assert model.private and model.branches["next"] == model.branches["main"] and len(model.commits) == 2
    assert {kind for kind, _ in hub.repositories} == {"model", "dataset", "space"}


def test_what_the_hub_refuses_is_one_line(hub, environment, folder, tmp_path):
    hub.create("stmine-hf/public")
    moved = hub.create("stmine-hf/tagged")
    moved.tags["v1"] = moved.branches["main"]
    nothing = tmp_path / "nothing"
    nothing.mkdir()
    given = ["push", folder, "--no-check", "--repo"]
    expected = {
        "no such organisation": ([*given, "nobody/x"], "no right to write there: "),
        "no id": ([*given, "a/b/c"], "expected an id like organisation/name"),
        "public already": ([*given, "stmine-hf/public", "--private"], "it is there already, and public"),
        "tag taken": ([*given, "stmine-hf/tagged", "--tag", "v1"], "tag v1 names commit"),
        "no card": (["push", nothing, "--no-check", "--repo", REPO], "found no README.md"),
        "wrong token": (["HF_TOKEN=hf_wrong", *given, REPO], "the token is not valid"),
        "no token": (["HF_TOKEN=", *given, REPO], "Nobody is logged in. Run `hf auth login`, or set HF_TOKEN."),
    }
    answers = publish(environment, *(words for words, _ in expected.values()))
    for answer, (case, (_, message)) in zip(answers, expected.items(), strict=True):
        assert answer.code == 1 and message in answer.err and answer.err.count("\n") == 1, (case, answer)
    assert not hub.uploads()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"HF_HUB_OFFLINE": "1"}, "unset HF_HUB_OFFLINE"),
        ({"HF_ENDPOINT": "http://127.0.0.1:9"}, "no connection to the Hub"),
    ],
    ids=["offline", "no connection"],
)
def test_no_way_to_the_hub_is_one_line(change, message, environment, folder):
    (answer,) = publish(environment | change, ["push", folder, "--repo", REPO, "--no-check"])
    assert answer.code == 1 and message in answer.err and answer.err.count("\n") == 1, answer


LOADER = """
import json, sys
import torch
from PIL import Image
from transformers import AutoImageProcessor, AutoModel, AutoModelForObjectDetection
from transformers.utils import logging
logging.disable_progress_bar()
source = dict(pretrained_model_name_or_path=sys.argv[1], revision=sys.argv[2], trust_remote_code=True)
features = AutoModel.from_pretrained(**source)
model = AutoModelForObjectDetection.from_pretrained(**source).eval()
processor = AutoImageProcessor.from_pretrained(**source)
inputs = processor(Image.linear_gradient("L").resize((60, 40)), return_tensors="pt")
with torch.no_grad():
    logits = model(**inputs).logits
print(json.dumps([type(features).__name__, type(model).__module__.split(".")[0], logits.tolist()]))
"""


def test_the_download_command_of_the_cards_works(hub, environment, folder, tmp_path):
    publish(environment, ["push", folder, "--repo", REPO, "--no-check"])
    shown = [
        line
        for card in ROOT.glob("hub_cards/*/README.md")
        for line in commands(card)
        if re.match("(hf|transformers) ", line)
    ]
    assert shown and all(re.fullmatch(r"hf download stmine-hf/(\S+) --local-dir \1", line) for line in shown)
    words = [str(Path(sys.executable).with_name("hf")), "download", REPO, "--local-dir", "tiny"]
    (place := tmp_path / "elsewhere").mkdir()
    subprocess.run(words, cwd=place, env={**os.environ, **environment, "HF_TOKEN": ""}, check=True, timeout=120)
    copy = {name: data for name, data in contents(place / "tiny").items() if not name.startswith(".")}
    assert copy == contents(folder)


@pytest.mark.slow
def test_what_was_pushed_loads_by_its_tag_online_and_then_offline(hub: HubServer, environment, tmp_path):
    """A fresh cache is filled from the Hub by the Auto classes; the same calls then work without it."""
    build(save_tiny_sat(tmp_path / "converted"), tmp_path / "tiny", license="mit")
    (pushed,) = publish(environment, ["push", tmp_path / "tiny", "--repo", REPO, "--tag", "v1", "--json"])
    assert pushed.json["tag"] == "v1"
    hub.create("stmine-hf/other")
    head = hub.repositories["model", REPO]
    head.commit("main", "break main", {})  # a tag stays what it was

    found = []
    for variables in ({}, {"HF_HUB_OFFLINE": "1", "HF_ENDPOINT": "http://127.0.0.1:9"}):
        fresh = hub.environment(tmp_path / "fresh") | variables | {"HF_TOKEN": ""}
        words = [sys.executable, "-c", LOADER, REPO, "v1"]
        done = subprocess.run(
            words, env={**os.environ, **fresh}, cwd=tmp_path, capture_output=True, text=True, timeout=120
        )
        assert done.returncode == 0, done.stderr
        found.append(json.loads(done.stdout.splitlines()[-1]))
        if not variables:
            shutil.rmtree(tmp_path / "fresh" / "modules")  # the code, too, comes from the cache

    logging.disable_progress_bar()
    model = SatForObjectDetection.from_pretrained(tmp_path / "tiny").eval()
    image = Image.linear_gradient("L").resize((60, 40))
    with torch.no_grad():
        logits = model(**SatImageProcessor.from_pretrained(tmp_path / "tiny")(image, return_tensors="pt")).logits
    assert found == [["SatModel", "transformers_modules", logits.tolist()]] * 2


def test_a_dry_run_needs_no_connection(folder, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    with pytest.raises(SystemExit) as end:
        main(["publish", "push", str(folder), "--repo", "me/tiny", "--no-check", "--dry-run"])
    printed = capsys.readouterr().out
    assert not end.value.code and "model.safetensors" in printed and "The Hub was not asked" in printed
