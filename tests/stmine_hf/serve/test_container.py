"""The files for containers, as far as they can be checked without one: what they name exists, their commands parse."""

import ast
import json
import re
import shlex

import pytest
from documents import ROOT, check_command

DOCKER = ROOT / "examples" / "docker"
DOCKERFILE = (DOCKER / "Dockerfile").read_text(encoding="utf-8").replace("\\\n", " ")


def instructions(name: str) -> list[str]:
    return [line.split(maxsplit=1)[1] for line in DOCKERFILE.splitlines() if line.startswith(f"{name} ")]


def test_what_is_copied_exists_and_is_sent_to_the_builder():
    copied = [source for line in instructions("COPY") for source in shlex.split(line)[:-1]]
    assert {"stmine_hf", "modeling", "hub_cards", "pyproject.toml"} <= set(copied)
    for source in copied:
        assert (ROOT / source).exists(), source
    sent = [line[1:] for line in (DOCKER / "Dockerfile.dockerignore").read_text().splitlines() if line[:1] == "!"]
    assert sorted(sent) == sorted(copied)
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    for read_by_pip in re.findall(r'^(?:readme = |license-files = \[)"([^"]+)"', project, re.MULTILINE):
        assert read_by_pip in copied, read_by_pip


def test_the_extras_exist():
    (line,) = [line for line in instructions("RUN") if "--editable" in line]
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    for extra in re.search(r'"\.\[([\w,]+)\]"', line)[1].split(","):
        assert re.search(rf"^{extra} = \[", project, re.MULTILINE), extra


def test_the_last_user_has_no_rights_and_what_is_run_comes_after_it():
    lines = DOCKERFILE.splitlines()
    (user,) = [number for number, line in enumerate(lines) if line.startswith("USER ")]
    assert lines[user] == "USER stmine" and "useradd" in DOCKERFILE
    assert all(number < user for number, line in enumerate(lines) if line.startswith(("RUN ", "COPY ")))


def test_commands_are_those_of_the_package():
    (entry,), (arguments,) = (
        (json.loads(line) for line in instructions("ENTRYPOINT")),
        map(json.loads, instructions("CMD")),
    )
    compose = pytest.importorskip("yaml").safe_load((DOCKER / "compose.yaml").read_text(encoding="utf-8"))
    service = compose["services"]["stmine"]
    for words in (arguments, service["command"]):
        check_command(shlex.join([*entry, *words]))
        for model in words[1::2]:
            assert (ROOT / "hub_cards" / model / "model.safetensors").is_file(), model
    context = (DOCKER / service["build"]["context"]).resolve()
    assert context == ROOT and (context / service["build"]["dockerfile"]).samefile(DOCKER / "Dockerfile")
    assert all(port.startswith("127.0.0.1:") for port in service["ports"])
    (port,) = instructions("EXPOSE")
    assert service["ports"][0].endswith(f":{port}")


def test_the_health_check_is_python_that_asks_ready():
    (check,) = instructions("HEALTHCHECK")
    command = json.loads(check[check.index("[") :])
    assert command[:2] == ["python", "-c"] and "/ready" in command[2] and ast.parse(command[2])
