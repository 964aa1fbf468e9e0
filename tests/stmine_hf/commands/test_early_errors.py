"""What can be told without a model is told before PyTorch is imported, which takes seconds."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from stmine_hf.detect.results import stored_identity
from stmine_hf.loading import labels_of
from stmine_hf.methods import SAT

# In one process for all commands: an import of PyTorch or transformers is an error there.
RUN = """
import contextlib, io, json, sys
from importlib.machinery import ModuleSpec

class Refuse:
    def find_spec(self, name, path=None, target=None):
        return ModuleSpec(name, self) if name in ("torch", "transformers") else None
    def create_module(self, spec):
        return None
    def exec_module(self, module):
        raise RuntimeError(f"imported {module.__name__}")

sys.meta_path.insert(0, Refuse())
from stmine_hf.cli import main

for words in json.load(sys.stdin):
    error = io.StringIO()
    with contextlib.redirect_stderr(error), contextlib.redirect_stdout(io.StringIO()):
        try:
            code = main(words)
        except SystemExit as end:
            code = end.code
    print(json.dumps([code, " ".join(error.getvalue().replace("\u2502", " ").split())]))
"""

ERRORS = {  # words of a command -> what its error says
    "classify --file none.csv --out x.csv": "no such file",
    "classify --file empty.csv --out x.csv": "found an empty file",
    "classify --file header.csv --out x.csv": "not one post can be classified (it is empty)",
    "classify --file blank.csv --out x.csv": "2 rows skipped; line 2: neither text nor image",
    "classify --file numbers.csv --out x.csv": "found 'a', 'b'",
    "classify --file empty.jsonl --out x.csv": "not one post can be classified",
    "classify --file posts.csv --out x.pdf": "ends with .jsonl",
    "classify --file posts.csv --explain 17": "no row '17'",
    "classify --file posts.csv --column text=content --out x.csv": "no column 'content'",
    "classify --text= ": "the text is empty, and there is no image",
    "classify --text a --image bad.jpg": "bad.jpg: not an image",
    "classify --text a --model sat-aircraft": "expected a MTTV model",
    "classify --text a --detector sat-coco-small": "takes no regions",
    "classify --file posts.csv --label no=unreal --out x.csv": "the model's labels are fake, real",
    "classify --file posts.csv --out posts.csv": "is the input itself",
    "classify --file posts.csv --out foreign.csv": "not listed as written by stmine",
    "classify --file posts.csv --out other.jsonl": "predictions of other@01234567, the model is now mttv-lite-weibo.",
    "detect nothing --out f": "no images in",
    "detect bad.jpg --out f": "could be read (not an image",
    "detect image.jpg --classes unicorn --out f": "no class 'unicorn'",
    "detect image.jpg --threshold 0.3,unicorn=0.2 --out f": "no class 'unicorn'",
    "detect image.jpg --format nosuch --out f": "found 'nosuch'",
    "detect images --out found --threshold 0.3 --iou 0.5": "other settings (threshold 0.4, iou 0.6)",
    "detect images --out found --classes person": "other settings (classes None)",
    "detect images --out found --slice 64": "other settings (no slice, no overlap)",
    "detect images --out found --save-crops": "other settings (no save_crops)",
    "detect images --out found --model sat-aircraft": "other settings (model sat-coco-small)",
    "detect image.jpg --out found": "holds the results of a folder",
    "detect images --out foreign": "not listed as written by stmine",
    "detect image.jpg --stretch x --out f": "stretch: expected two",
    "detect image.jpg --model fisvl-lite-rsicd --out f": "stmine search",
    "features mttv --file empty.csv --out f": "found an empty file",
    "features mttv --file posts.csv --out f --dtype int8": "--dtype: expected float32 or float16",
    "features mttv --dataset weibo --data-dir none --out f": "none: no such folder",
    "features mttv --dataset weibo --data-dir nothing --out f": "expected train.jsonl",
    "evaluate fisvl --dataset rsicd --data-dir none": "none: no such folder",
    "evaluate fisvl --dataset rsicd": "give its folder",
    "evaluate fisvl --dataset none.csv": "no such file or folder",
    "evaluate mttv --dataset empty.csv": "the file is empty",
    "evaluate mttv --dataset posts.csv --label no=unreal": "the model's labels are fake, real",
    "evaluate mttv --dataset posts.csv --detector sat-coco-small": "takes no regions",
    "evaluate mttv --dataset posts.csv --out results": "not listed as written by stmine",
    "evaluate sat --dataset coco_json --data-dir nothing": "expected annotations",
    "evaluate sat --dataset toy_camouflage --model mttv-lite-weibo": "stmine classify",
    "index nothing --out i": "no images in",
    "index images --out i --metadata none.csv": "none.csv: cannot be read",
    "search none.index planes": "no index in",
    "search images planes": "stmine index",
    "export sat --out f --images nothing": "found none that can be read",
    "export sat --out f --format int8": "give --images or --dataset",
    "export sat --out f --size 33": "multiple of 32",
    "export sat --out f --dataset coco_json --data-dir none": "no such folder",
    "export sat --out images": "holds other files (1.jpg)",
    "export fisvl --out f --model sat-aircraft": "expected a FISVL model",
    "demo --language fr": "expected en or zh",
    "demo --images nothing": "expected images in this folder",
    "serve --classify-model sat-aircraft": "expected a MTTV model",
    "serve --index nothing": "no index in",
    "data describe none.csv": "no such file or folder",
    "data export rsicd --data-dir none --out d": "none: no such folder",
    "merge sat-aircraft --out m": "no adapter found",
    "convert fisvl none.pth out": "none.pth: no such file",
    "convert mttv bad.jpg out --vocab none.txt": "none.txt: no such file",
    "convert sat none.pth out": "none.pth: no such file",
    "publish build none --out x": "no such folder",
    "publish check none": "none: expected a repository",
    "train sat --data none": "no such file or folder",
    "train sat --resume --output none": "holds no run to resume",
}


@pytest.fixture(scope="module")
def told(tmp_path_factory) -> dict[str, list]:
    """The exit code and the error of each command."""
    folder: Path = tmp_path_factory.mktemp("early")
    (folder / "nothing").mkdir()
    (folder / "nothing" / "notes.txt").write_text("no images")
    (folder / "images").mkdir()
    for name in ("image.jpg", "images/1.jpg"):
        Image.new("RGB", (64, 64)).save(folder / name)
    (folder / "bad.jpg").write_text("not an image")
    (folder / "empty.csv").touch()
    (folder / "empty.jsonl").touch()
    (folder / "header.csv").write_text("id,text\n")
    (folder / "blank.csv").write_text("id,text\n1, \n2,\n")
    (folder / "numbers.csv").write_text("a,b\n1,2\n")
    (folder / "posts.csv").write_text("id,text\n1,hello\n")
    (folder / "foreign.csv").write_text("mine\n")
    for name in ("foreign/detections.json", "results/results.json"):
        (folder / name).parent.mkdir()
        (folder / name).write_text("mine")
    prediction = {"id": 1, "label": "fake", "scores": {}, "model": "other@01234567"}
    (folder / "other.jsonl.journal.jsonl").write_text(json.dumps(prediction) + "\n")
    names = labels_of(None, SAT)
    identity = stored_identity(None, names)
    settings = {"model": "sat-coco-small", "identity": identity, "threshold": 0.4, "labels": None}
    (folder / "found").mkdir()
    (folder / "found" / "journal.jsonl").write_text(json.dumps({"settings": settings}) + "\n")
    words = [[part for part in command.split(" ") if part] for command in ERRORS]
    run = subprocess.run(
        [sys.executable, "-c", RUN], input=json.dumps(words), cwd=folder, capture_output=True, text=True, check=True
    )
    return dict(zip(ERRORS, map(json.loads, run.stdout.splitlines()), strict=True))


@pytest.mark.parametrize("command", ERRORS)
def test_an_error_is_told_before_pytorch_is_imported(command, told):
    code, error = told[command]
    assert "imported" not in error, error
    assert code in (1, 2) and ERRORS[command] in error, error
