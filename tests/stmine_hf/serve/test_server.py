"""`stmine serve` as a process: it opens, answers, and stops without a lost answer."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from helpers_serve import drawing, make_models, png, text_of

from stmine_hf.cli import main

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    return make_models(tmp_path_factory.mktemp("service"))


def asked(address, path, body):
    request = urllib.request.Request(address + path, json.dumps(body).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.load(answer)


@pytest.mark.slow
@pytest.mark.parametrize("stop", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "Ctrl-C"])
def test_a_stop_loses_no_answer(models, stop):
    """Requests wait in the queue when the signal comes; the first of a batch waits a second for others."""
    environment = {name: value for name, value in os.environ.items() if name != "STMINE_API_KEY"}
    process = subprocess.Popen(
        [sys.executable, "-m", "stmine_hf.cli", "serve", "--port", "0", "--wait-ms", "1000", "--batch-size", "64",
         "--index", models.index, "--classify-model", models.classify, "--detect-model", models.detect],
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        env={**environment, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    try:
        lines = []
        for line in process.stdout:
            lines.append(line)
            if line.startswith("Ready at "):
                break
        assert lines and lines[-1].startswith("Ready at "), lines
        address = lines[-1].split()[2].rstrip(".")
        image = text_of(png(drawing(3)))
        bodies = [("/search", {"query": "a bridge"}), ("/search", {"image": image}), ("/classify", {"text": "fake"}),
                  ("/detect", {"image": image})] * 3  # fmt: skip
        with ThreadPoolExecutor(len(bodies)) as pool:
            answers = [pool.submit(asked, address, *body) for body in bodies]
            time.sleep(0.5)
            assert not any(answer.done() for answer in answers), "the requests did not wait"
            process.send_signal(stop)
            found = [answer.result() for answer in answers]
        assert all("hits" in one or "label" in one or "detections" in one for one in found)
        assert process.wait(60) == 0, process.stdout.read()
        assert "stopped" in process.stdout.read()
        with pytest.raises(urllib.error.URLError):
            asked(address, "/search", {"query": "a"})
    finally:
        process.kill()
        process.wait()


def refusal(capsys, *words) -> str:
    with pytest.raises(SystemExit) as end:
        main(["serve", *map(str, words)])
    assert end.value.code in (1, 2)
    return " ".join(capsys.readouterr().err.replace("│", " ").split())


def test_mistakes_in_the_command(capsys, tmp_path, models, monkeypatch):
    monkeypatch.delenv("STMINE_API_KEY", raising=False)
    assert "expected what to serve" in refusal(capsys)
    assert "found no folder" in refusal(capsys, "--index", tmp_path / "none")
    assert "no model found" in refusal(capsys, "--detect-model", "./none")
    assert "ASCII" in refusal(capsys, "--detect-model", models.detect, "--api-key", " ")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert "cannot listen at 127.0.0.1" in refusal(capsys, "--detect-model", models.detect, "--port", port)


def test_a_model_that_cannot_be_opened_ends_the_service(capsys, tmp_path):
    (tmp_path / "config.json").write_text("{}")
    assert "no model found" in refusal(capsys, "--detect-model", tmp_path, "--port", "0")
    assert "no index in" in refusal(capsys, "--index", tmp_path, "--port", "0")


def test_a_service_for_others_without_a_key_is_warned_of(capsys, tmp_path, monkeypatch):
    monkeypatch.delenv("STMINE_API_KEY", raising=False)
    (tmp_path / "config.json").write_text("{}")
    assert "STMINE_API_KEY" in refusal(capsys, "--detect-model", tmp_path, "--port", "0", "--host", "0.0.0.0")
    assert "STMINE_API_KEY" not in refusal(capsys, "--detect-model", tmp_path, "--port", "0", "--host", "127.0.0.1")


def test_parts_of_an_answer_are_sent_at_once(models, monkeypatch):
    """Else each request of a connection that is kept takes 40 ms more (Nagle's algorithm)."""
    seen = []

    def run(server, sockets):
        with socket.create_connection(sockets[0].getsockname()):
            accepted, _ = sockets[0].accept()
            with accepted:
                seen.append(accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))

    monkeypatch.setattr("uvicorn.Server.run", run)
    try:
        main(["serve", "--port", "0", "--detect-model", str(models.detect)])
    except SystemExit as end:
        assert not end.code
    assert seen and seen[0]
