"""The house itself: cheap imports, a complete wheel, self-contained model folders, documents that tell the truth."""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest
import typer
from documents import ROOT, check_command, commands, python_blocks

import stmine_hf
from stmine_hf.cli import app
from stmine_hf.methods import METHODS

READMES = ("README.md", "README.zh-CN.md")
SHIPPED = sorted(p for p in (ROOT / "modeling").glob("*/*.py") if p.name != "__init__.py")
ALLOWED_IMPORTS = {"torch", "torchvision", "transformers", "numpy", "PIL", *sys.stdlib_module_names}


def run_python(code: str, **options) -> None:
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120, **options)


def test_importing_the_package_loads_nothing_heavy():
    run_python("import stmine_hf, sys; assert not {'torch', 'transformers', 'datasets'} & set(sys.modules)")


def test_help_loads_nothing_heavy():
    run_python(
        "import sys\nfrom stmine_hf.cli import main\n"
        "try: main(['--help'])\nexcept SystemExit as end: assert end.code == 0\n"
        "assert not {'torch', 'transformers', 'datasets', 'faiss', 'numpy'} & set(sys.modules)",
        stdout=subprocess.DEVNULL,
    )


def test_wrong_paths_and_names_are_reported_before_anything_heavy_loads(tmp_path):
    """So within a second: torch, transformers, datasets and Gradio take several to import."""
    (tmp_path / "empty").mkdir()
    lines = [
        "detect none", "detect empty --model ./none", "search none plane", "search none plane --model ./none",
        "index none --out index", "index empty --out index --engine fast", "classify --text a --engine fast",
        "index empty --out index", "classify --text a --image none.jpg",
        "classify --file none.csv --out a.csv", "classify --text a --model ./none", "merge ./none --out a",
        "features mttv --file none.csv --out a", "publish build none --out a", "export sat --format none --out a",
        "export sat --model ./none --out a", "export sat --images none --out a", "demo --images none",
        "demo --images empty", "demo --sat ./none", "detect empty --model none",
    ]  # fmt: skip
    run_python(
        "import sys\nfrom stmine_hf.cli import main\n"
        f"for line in {lines}:\n"
        "    try: main(line.split())\n    except SystemExit as end: assert end.code in (1, 2), line\n"
        "    else: raise AssertionError(line)\n"
        "    loaded = {'torch', 'transformers', 'datasets', 'gradio'} & set(sys.modules)\n"
        "    assert not loaded, (line, loaded)",
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stderr=subprocess.DEVNULL,
    )


@pytest.mark.parametrize("name", stmine_hf.__all__)
def test_public_names_load(name):
    assert getattr(stmine_hf, name) is not None
    assert name in dir(stmine_hf)


def test_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="has no attribute 'Fisvl'"):
        stmine_hf.Fisvl  # noqa: B018


def test_touching_a_model_class_registers_it():
    from transformers import AutoConfig, AutoModel, AutoModelForZeroShotImageClassification

    config = stmine_hf.FisvlConfig
    assert AutoConfig.for_model("fisvl").__class__ is config
    for auto in (AutoModel, AutoModelForZeroShotImageClassification):
        assert auto._model_mapping[config] is stmine_hf.FisvlModel


def test_version_is_the_same_everywhere():
    for file, pattern in (("pyproject.toml", r'^version = "(.+)"$'), ("CITATION.cff", r"^version: (.+)$")):
        found = re.search(pattern, (ROOT / file).read_text(encoding="utf-8"), re.MULTILINE)
        assert found and found[1] == stmine_hf.__version__, file


def test_wheel_holds_every_module_and_works_alone(tmp_path):
    source, site = tmp_path / "source", tmp_path / "site"
    for name in ("stmine_hf", "modeling"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    files = [*source.rglob("*.py"), *(source / "stmine_hf").rglob("*.md")]
    modules = {file.relative_to(source).as_posix() for file in files}
    modules = {f"stmine_hf/{name}" if name.startswith("modeling/") else name for name in modules}
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "-w", str(tmp_path)]
    subprocess.run([*pip, str(source)], check=True, timeout=120)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        archive.extractall(site)
    assert modules <= names, sorted(modules - names)
    assert any(name.endswith("licenses/LICENSE") for name in names)
    run_python(
        "import stmine_hf, stmine_hf.modeling.fisvl as f, pathlib\n"
        f"assert pathlib.Path(f.__file__).is_relative_to({str(site)!r}), f.__file__\n"
        "stmine_hf.FisvlConfig()",
        cwd=tmp_path,
        env={"PYTHONPATH": str(site), "PATH": "", "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "hf")},
    )


@pytest.mark.parametrize("file", SHIPPED, ids=lambda file: file.stem)
def test_shipped_file_needs_only_what_the_hub_loader_has(file):
    from transformers.dynamic_module_utils import get_imports

    assert set(get_imports(file)) <= ALLOWED_IMPORTS
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.level:
            place = f"{file.name}:{node.lineno}"
            assert node.level == 1 and node.module, f"{place}: only `from .sibling import name` reaches the Hub"
            assert (file.parent / f"{node.module}.py").is_file(), f"{place}: no sibling {node.module}.py"


def tracked_files() -> list[Path]:
    try:
        listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("not a git checkout")
    return [ROOT / name for name in listed.split("\0") if name and (ROOT / name).is_file()]


def test_tracked_files_name_no_machine():
    machine_path = re.compile(r"(?<![\w.:/-])/(?:work|root|home|tmp|mnt|opt|Users)/\w|--(?:extra-)?index-url")
    found = []
    for path in tracked_files():
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue  # images and weights
        if path != Path(__file__).resolve():
            found += [f"{path.relative_to(ROOT)}: {hit[0]}" for hit in machine_path.finditer(text)]
    assert not found


def help_examples(command: Any = None) -> list[str]:
    """The command lines that `--help` of `stmine` and of each of its commands shows."""
    command = command or typer.main.get_command(app)
    own = [line.strip() for line in (command.epilog or "").splitlines() if line.startswith("  stmine ")]
    return own + [line for child in getattr(command, "commands", {}).values() for line in help_examples(child)]


def test_promises_of_security_name_tests_that_there_are():
    named = re.findall(r"`((?:tests|stmine_hf)/[^`]*)`", (ROOT / "SECURITY.md").read_text(encoding="utf-8"))
    assert len(named) > 10 and [path for path in named if not (ROOT / path).exists()] == []


def test_help_shows_examples_for_every_command():
    shown = " ".join(help_examples())
    alone = ("index", "search", "demo", "classify", "detect", "toy")
    grouped = [f"{group} {method}" for group in ("evaluate", "convert") for method in METHODS]
    for name in (
        *alone,
        *grouped,
        "features mttv",
        "export sat",
        "publish build",
        "publish check",
        "publish diff",
        "publish push",
    ):
        assert f"stmine {name}" in shown


@pytest.mark.parametrize("line", sorted({*commands(READMES[0]), *help_examples()}))
def test_documented_command_exists(line):
    check_command(line)


def test_both_readmes_show_the_same_commands():
    assert commands(READMES[0]) == commands(READMES[1])


@pytest.mark.parametrize("readme", READMES)
def test_readme_python_compiles_and_links_lead_somewhere(readme):
    for block in python_blocks(readme):
        compile(block, readme, "exec")
    for link in re.findall(r"\]\((?!https?:|#)([^)#]+)", (ROOT / readme).read_text(encoding="utf-8")):
        assert (ROOT / link).exists(), link


@pytest.mark.skipif(shutil.which("make") is None, reason="needs make")
@pytest.mark.parametrize("setting", [None, "IMAGES=my_images", "PICTURES=my_images"])
def test_make_demo_names_a_folder_of_images_only_when_it_is_given_one(setting):
    command = ["make", "--dry-run", "--directory", str(ROOT), "demo", *([setting] if setting else [])]
    environment = {name: value for name, value in os.environ.items() if name not in ("IMAGES", "PICTURES")}
    shown = subprocess.run(command, check=True, capture_output=True, text=True, env=environment).stdout
    assert ("--images" in shown) == (setting is not None) and "demo --once" in shown
