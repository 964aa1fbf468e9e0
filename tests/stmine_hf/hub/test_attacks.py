"""Code, files and settings that would run, fetch or read something are refused before anything of them is run."""

# ruff: noqa: E501, RUF001  the code of attacks, as it stands

from __future__ import annotations

import bz2
import json
import lzma
import os
import pickle
import re
import shutil
import socket
import sys
import zipfile
from pathlib import Path

import pytest
from documents import ROOT
from helpers_sat import save_tiny_sat
from safetensors.torch import load_file, save_file

from stmine_hf.documents import DocumentError, parse_json, parse_yaml
from stmine_hf.hub.build import build
from stmine_hf.hub.check import check
from stmine_hf.hub.checks.code import check_own_code
from stmine_hf.hub.checks.code_faults import code_faults
from stmine_hf.hub.checks.files import check_configs
from stmine_hf.hub.checks.loading import run_in_sandbox
from stmine_hf.hub.repository import write_manifest

# Each leaves a file at `HERE`, loads code, or reaches what could, when its module is imported.
CODE = {
    "os.system": "import os\nos.system('id')",
    "from os import system": "from os import system\nsystem('id')",
    "alias": "import os as torch_utils\ntorch_utils.popen('id')",
    "posix_spawn": "import posix\nposix.posix_spawn('/bin/sh', [], {})",
    "fork": "from os import fork, execvp\nfork() or execvp('sh', ['sh'])",
    "subprocess": "import subprocess as s\ns.run(['id'])",
    "socket": "import socket\nsocket.create_connection(('192.0.2.1', 80))",
    "ctypes": "import ctypes\nctypes.CDLL(None).system(b'id')",
    "importlib": "import importlib\nimportlib.import_module('os').system('id')",
    "pickle": "import pickle\npickle.loads(b'')",
    "shutil": "import shutil\nshutil.rmtree('x')",
    "pathlib": "from pathlib import Path\nPath('x').write_text('')",
    "sys.modules": "import sys\nsys.modules['os'].system('id')",
    "builtins": "import builtins\nbuiltins.exec('1')",
    "getattr": "import torch\ngetattr(torch, 'l' + 'oad')('x')",
    "getattr with a name": "import torch\nname = 'load'\ngetattr(torch, name)('x')",
    "getattr as a value": "from functools import reduce\nimport torch\nreduce(getattr, ['load'], torch)",
    "eval": "eval('1')",
    "an eval of one's own elsewhere": "def f(eval):\n    return eval\n\neval('1')",
    "eval by another name": "run = eval\nrun('1')",
    "exec": "exec('import os')",
    "compile": "compile('1', 'x', 'eval')",
    "__import__": "__import__('os').system('id')",
    "__builtins__": "__builtins__['exec']('1')",
    "globals": "globals()['__builtins__']",
    "locals": "locals()['x']",
    "vars": "import torch\nvars(torch)['load']('x')",
    "open": "open('x', 'w').write('')",
    "wide letters": "ｅｖａｌ('1')",
    "torch.load": "import torch\ntorch.load('x')",
    "torch.load by name": "from torch import load\nload('x')",
    "torch.load by an alias": "import torch as t\nload = t.load\nload('x')",
    "torch.hub": "import torch\ntorch.hub.load('someone/repo', 'x')",
    "torch.hub imported": "from torch import hub as nn\nnn.load('someone/repo', 'x')",
    "a module as a value": "import torch\nt = torch\nt.load('x')",
    "a module in a list": "import torch\n[torch][0].load('x')",
    "a module of a module": "import torch\ntorch.os.system('id')",
    "a module behind functions": "import torch.nn.functional as F\nF.importlib.import_module('os')",
    "a class that a package has imported": "from transformers.processing_utils import Path\nPath('x').write_text('')",
    "torch.ops": "import torch\ntorch.ops.load_library('x.so')",
    "torch.compile": "import torch\ntorch.compile(print)",
    "extension": "from torch.utils.cpp_extension import load\nload('x', ['x.cpp'])",
    "torch.from_file": "import torch\ntorch.from_file('x', shared=True, size=3)",
    "tofile": "import numpy as np\nnp.zeros(3).tofile('x')",
    "numpy.load": "import numpy as np\nnp.load('x', allow_pickle=True)",
    "numpy.save": "from numpy import save\nsave('x', 1)",
    "image show": "from PIL import Image\nImage.new('L', (1, 1)).show()",
    "image save": "from PIL import Image\nImage.new('L', (1, 1)).save('x.png')",
    "image open": "from PIL import Image\nImage.open('x.eps')",
    "another model": "from transformers import AutoModel\nAutoModel.from_pretrained('someone/else', " "" "" "" "" "" "" "" "" "" "" "" "" "" "" "" "" "" "" "" "" "" "" "" "" "" "" "" "" "" "" "" "" "" "" "" "" "" "" "" "" "" "" "" "" "" "" "" "" "" "" "" "" "" "" "" "" "" "" "" "" "" "" "" "" "" "" "" "" "" "" "" "" "" "" "" "" "" "" "" "" "" "" "" "" "" "" "" "" "" "" "" "" "" "" "" "" "" "" "" "" "" "" "" "" "" "" "" "" "" "" "" "" "" "" "" "" "" "" "" "" "" "" "" "" "" "" "" "" "" "" "" "" "" "" "" "" "" "" "" "" "" "" "" "" "" "" "" "" "" "" "" "" "" "" "" "" "" "" "" "" "" "" "" "" "" "" "" "" "" "" "" "" "" "" "" "" "" "" "" "" "" "" "" "" "" "" "" "" "" "" "" "" "" "" "" "" "" "" "" "" "" "" "" "" "" "" "" "" "" "" "" "" "" "" "" "" "" "" "" "" "" "" "" "" "" "" "" "" "" "" "" "" "" "" "" "" "" "" "" "" "" "" "" "" "" "" "" "" "" "" "" "" "" "" "" "" "" "" "" "" "" "" "" "" "" "" "" "" "" "" "" "" "" "" "" "" "" "" "" "" "" "" "" "" "" "" "" "" "" "" "" "" "" "" "" "" "" "" "" "trust_remote_code=True)",
    "another model by an alias": "from transformers import AutoModel\nf = AutoModel.from_pretrained\nf('someone/else')",
    "a method named so": (
        "from transformers import AutoModel\nclass A:\n    def from_pretrained(self):\n        pass\n"
        "cls = AutoModel\ncls.from_pretrained('someone/else')"
    ),
    "from_config with options": "from transformers import AutoModel\noptions = {}\nAutoModel.from_config(None, **options)",
    "push": "from transformers import PreTrainedModel\nclass A(PreTrainedModel):\n    def f(self):\n        self.push_to_hub('a/b')",
    "subclasses": "().__class__.__base__.__subclasses__()",
    "globals of a function": "def f():\n    pass\n\nf.__globals__['x']",
    "dunder by getattr": "def f():\n    pass\n\ngetattr(f, '__globals__')",
    "a frame of a generator": "g = (x for x in ())\ng.gi_frame.f_builtins['exec']",
    "a frame, excused": "class A:\n    gi_frame = f_builtins = None\n\ng = (x for x in ())\ng.gi_frame.f_builtins['exec']",
    "a pattern": "class A:\n    pass\n\nmatch A():\n    case A(__class__=kind):\n        pass",
    "operator": "from operator import attrgetter\nimport math\nattrgetter('x')(1)",
    "methodcaller": "import operator\noperator.methodcaller('system', 'id')",
    "type hints": "from typing import get_type_hints\nclass A:\n    x: \"print('x')\" = 1\n\nget_type_hints(A)",
    "an annotation": "class A:\n    x: \"exec('import os')\" = 1",
    "an argument's annotation": "def f(x: \"print(1)\"):\n    pass",
    "str.format": "def f():\n    pass\n\n'{0.__globals__}'.format(f)",
    "code object": "def f():\n    pass\n\nf.__code__ = None",
    "decorator": "import os\n\n@os.system\ndef f():\n    pass",
    "lambda": "f = lambda: __import__('os')",
    "walrus": "import torch\nif (t := torch):\n    t.load('x')",
    "changed package": "import torch\ntorch.load = print",
    "star": "from torch import *",
    "star of a sibling": "from .modeling_sat import *",
    "import of a sibling": "from .modeling_sat import torch\ntorch.load('x')",
    "atexit": "import atexit\natexit.register(print)",
    "threading": "import threading\nthreading.Thread(target=print)",
    "signal": "import signal",
    "logging to a file": "import logging\nlogging.FileHandler('x')",
    "code in another encoding": "# -*- coding: utf-7 -*-\n+AGkAbQBwAG8AcgB0- os",
    "urllib in try": "try:\n    import urllib.request\nexcept ImportError:\n    pass",
    "webbrowser": "def f():\n    import webbrowser\n    webbrowser.open('x')",
    "traceback": "try:\n    1 / 0\nexcept Exception as error:\n    error.__traceback__.tb_frame.f_globals",
    "a module behind a value, excused": "import warnings\nclass A:\n    _module = sys = posix_spawn = None\nwarnings.catch_warnings()._module.sys.modules['posix'].posix_spawn('/bin/sh', ['sh'], {})",
    "positions of a pattern": "from abc import ABCMeta\nclass M(ABCMeta):\n    def __instancecheck__(cls, one):\n        return True\n    @property\n    def __match_args__(cls):\n        return ('_' + '_globals_' + '_',)\nclass A(metaclass=M):\n    pass\ndef f():\n    pass\nmatch f:\n    case A(found):\n        found['_' + '_builtins_' + '_']['exec']('1')",
    "a text as an annotation": "from transformers import PreTrainedConfig\nA = 'print(1)'\nclass C(PreTrainedConfig):\n    x: A = 1",
    "a built annotation": "class C:\n    x: f\"{'print'}(1)\" = 1",
    "a text in an annotation": "from typing import Optional\nA = 'print(1)'\nclass C:\n    x: Optional[A] = 1",
    "attributes by other names": "from transformers import PreTrainedConfig\nclass C(PreTrainedConfig):\n    attribute_map = {'width': 'save_' + 'pretrained'}\nC().width('/x')",
    "a built format": "def f():\n    pass\n('{0.' + '_' + '_globals_' + '_}').format(f)",
    "a renamed field": "from dataclasses import dataclass, fields, asdict\nfrom abc import ABCMeta\n@dataclass\nclass M(ABCMeta):\n    x: int = 1\nfields(M)[0].name = '_' + '_getattribute_' + '_'\nclass A(metaclass=M):\n    pass\nasdict(A)",
    "__reduce_ex__": "import copy\nclass A:\n    def __reduce_ex__(self, n):\n        return (A.f, (), (None, {'_' + '_x__': 1}))\n    def f():\n        return A\ncopy.copy(A())",
    "__class_getitem__": "class A:\n    def __class_getitem__(cls, x):\n        return x",
    "__del__": "class A:\n    def __del__(self):\n        pass",
    "a function as a metaclass": "class A(metaclass=print):\n    pass",
    "the type of a class": "class A:\n    pass\ntype(A)('B', (), {'__anno' + 'tations__': {}})",
    "the type of a type": "type(type(1))('B', (), {'__anno' + 'tations__': {}})",
    "the type of a variable": "class A:\n    pass\nx = A\nM = type(x)\nM('B', (), {})",
    "a type handed on": "def f(kind):\n    kind('B', (), {})\nf(type(object))",
    "ABCMeta as a function": "from abc import ABCMeta\nABCMeta('A', (), {'__anno' + 'tations__': {}})",
    "NamedTuple as a function": "from typing import NamedTuple\nNamedTuple('A', [('x', 'print' + '(1)')])",
    "TypedDict as a function": "import typing\ntyping.TypedDict('A', {'x': 'print' + '(1)'})",
    "positions of a dataclass": "from abc import ABC\nfrom dataclasses import dataclass\n@dataclass\nclass A(ABC):\n    gi_frame: int = 1\n    def register(self):\n        pass\ng = (x for x in ())\nA.register(type(g))\nmatch g:\n    case A(frame):\n        pass",
    "a kernel by its name": "from transformers import AutoModel\nAutoModel.from_config(1, attn_implementation='someone/kernel')",
    "a kernel, set later": "class A:\n    def f(self, config):\n        config._attn_implementation = 'someone/kernel'",
    "a kernel by a variable": "from transformers import AutoModel\nKERNEL = 'a/b'\nAutoModel.from_config(1, attn_implementation=KERNEL)",
    "a kernel by a key": "def f(**kwargs):\n    kwargs['attn_implementation'] = 'a/b'",
    "a kernel by a key in a variable": "KEY = 'attn_implementation'\ndef f(**kwargs):\n    kwargs[KEY] = 'a/b'",
    "a kernel as a sum": "class A:\n    def f(self):\n        self._attn_implementation = 'a' + '/b'",
    "a kernel by default": "class A:\n    def f(self, x, attn_implementation: str = 'a/b'):\n        return x",
    "a kernel by default, by name": "class A:\n    def f(self, *, x, attn_implementation='a/b'):\n        return x",
    "a kernel by a dictionary": "def f(**kwargs):\n    return dict(**{'attn_implementation': 'a/b'})",
    "a kernel by options": "def f(**kwargs):\n    return dict(attn_implementation='a/b')",
    "a kernel in a tuple": "class A:\n    _attn_implementation, y = 'a/b', 1",
    "a kernel in a loop": "class A:\n    for _attn_implementation in ['a/b']:\n        pass",
    "a kernel by a walrus": "class A:\n    x = (_attn_implementation := 'a/b')",
    "a kernel by a method": "class A:\n    @property\n    def _attn_implementation(self):\n        return 'a/b'",
    "a kernel by an import": "from .modeling_sat import torch as _attn_implementation",
    "a kernel by a pattern": "class A:\n    match 'a/b':\n        case _attn_implementation:\n            pass",
    "a kernel by an addition": "class A:\n    def f(self):\n        self._attn_implementation += '/b'",
    "a kernel by another name": "class A:\n    attribute_map = {'width': '_attn_implementation'}\n    width: str = 'a/b'",
    "a kernel that is vouched for": "class A:\n    _compatible_flash_implementations = ['a/b']",
    "every kernel": "from transformers import AutoModel\nAutoModel.from_config(1, allow_all_kernels=True)",
    "a kernel by a key that is a sum": "def f(**kwargs):\n    kwargs['attn_' + 'implementation'] = 'a/b'",
    "a kernel by a sum of variables": "A = 'attn_'\nB = 'implementation'\nKEY = A + B\ndef f(**kwargs):\n    kwargs[KEY] = 'a/b'",
    "a kernel by an f-string": "KIND = 'attn'\ndef f(g):\n    return g(**{f'{KIND}_implementation': 'a/b'})",
    "a kernel by joined pieces": "PARTS = ['attn', 'implementation']\ndef f(g):\n    return g(**{'_'.join(PARTS): 'a/b'})",
    "a kernel by format": "def f(g):\n    return g(**{'{}_implementation'.format('attn'): 'a/b'})",
    "a kernel by a percent sign": "def f(g):\n    return g(**{'%s_implementation' % 'attn': 'a/b'})",
    "a kernel by a replacement": "KEY = 'attn_XXX'.replace('XXX', 'implementation')",
    "a kernel backwards": "KEY = 'noitatnemelpmi_ntta'[::-1]",
    "a kernel in capitals": "KEY = 'ATTN_IMPLEMENTATION'.lower()",
    "a kernel by a default": "def f(g, kind='experts'):\n    return g(**{kind + '_implementation': 'a/b'})",
    "a kernel by a loop over pieces": "def f(g):\n    for kind in ('attn', 'experts'):\n        g(**{kind + '_implementation': 'a/b'})",
    "a kernel by one of two": "def f(g, x):\n    return g(**{('attn' if x else 'experts') + '_implementation': 'a/b'})",
    "a kernel, and formats without end": "A = '%999999999999s' % 'a'\nB = '{:>999999999999}'.format('a')\nC = 'attn_' + 'implementation'",
    "a kernel by bytes": "from base64 import b64decode\ndef f(g):\n    return g(**{b64decode('YXR0bl9pbXBsZW1lbnRhdGlvbg==').decode(): 'a/b'})",
    "a kernel by letters": "def f(g, **kwargs):\n    kwargs[''.join(chr(x + 1) for x in (96, 115))] = 'a/b'\n    return g(**kwargs)",
    "a kernel as one value of a sum": "from transformers import AutoModel\nKERNEL = 'a' + '/b'\nAutoModel.from_config(1, attn_implementation=KERNEL)",
    "a kernel as an f-string": "from transformers import AutoModel\nAutoModel.from_config(1, attn_implementation=f'{1}/b')",
    "a kernel as joined pieces": "class A:\n    def f(self, config):\n        config._attn_implementation = '/'.join(['a', 'b'])",
    "an argument as an annotation": "def f(t):\n    class C:\n        x: t = 1\nf('print(1)')",
    "an attribute as an annotation": "class B:\n    text = 'print(1)'\nclass C:\n    x: B.text = 1",
    "one of two values as an annotation": "A, B = 'print(1)', 2\nclass C:\n    x: A = 1",
    "a loop's text as an annotation": "for A in ['print(1)']:\n    class C:\n        x: A = 1",
    "attributes by other names, passed": "from transformers import PreTrainedConfig\nPreTrainedConfig(attribute_map={'x': 'push' + '_to_hub'})",
    "attributes by other names, set later": "from transformers import PreTrainedConfig\nclass C(PreTrainedConfig):\n    def __init__(self):\n        self.attribute_map = {'x': 'push' + '_to_hub'}",
    "format_map": "def f():\n    pass\nt = '{x.' + '_' + '_globals_' + '_}'\nt.format_map({'x': f})",
    "str.format of a variable": "def f():\n    pass\nstr.format('{0.' + '_' + '_globals_' + '_}', f)",
    "a metaclass": "class M:\n    pass\nclass A(metaclass=M):\n    pass",
    "options of a class": "class A(**{'meta' + 'class': print}):\n    pass",
    "__getattr__": "class A:\n    def __getattr__(self, name):\n        return 1",
    "a sum as an annotation": "def f() -> 'pri' + 'nt(1)':\n    pass",
}  # fmt: skip


@pytest.mark.parametrize("name", CODE)
def test_disguised_code_is_refused(name, tmp_path):
    (tmp_path / "modeling_sat.py").write_text("import torch\n")
    (tmp_path / "losses_sat.py").write_text(CODE[name] + "\n", encoding="utf-8")
    found = [*code_faults(tmp_path / "losses_sat.py")]
    assert found and ("kernel" not in name or re.search("kernels? of the Hub", str(found)))


HARMLESS = '''
"""A head with one layer more, as its __init__ says."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal, Optional, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import AutoModel, PreTrainedConfig, PreTrainedModel
from transformers.utils import ModelOutput

Sizes = tuple[int, int] | list["Tensor"]
T = TypeVar("T", bound=nn.Module)


def kept(module: T, how: Literal["mean", "N/A"] = "mean", sizes: Optional[Sizes] = None) -> "T":
    assert isinstance(module, type(module)) and type(module).__name__, f"a {type(module)} of {'{}'.format(how)}"
    return module


@dataclass
class Output(ModelOutput):
    loss: Tensor | None = None
    heat: Tensor | None = None


class HeatConfig(PreTrainedConfig):
    model_type = "heat"
    attribute_map = {"hidden_size": "heat_width"}

    def __init__(self, heat_width: int = 8, attn_implementation: str | None = None, **kwargs: Any) -> None:
        """Read attn_implementation, and "kernel_size"."""
        self.heat_width, self.kernel_size = heat_width, 3
        super().__init__(**kwargs)


class HeatModel(PreTrainedModel):
    config_class = HeatConfig

    def __init__(self, config: HeatConfig) -> None:
        super().__init__(config)
        if config._attn_implementation == "sdpa" or getattr(config, "_attn_implementation", None) is None:
            config._attn_implementation = "eager"
        self.inner = AutoModel.from_config(config, attn_implementation="sdpa")
        self.layers = nn.ModuleList([nn.Linear(config.heat_width, config.heat_width) for _ in range(2)])
        self.register_buffer("scale", torch.ones(1), persistent=False)
        self.post_init()

    def forward(self, pixel_values: Tensor, labels: Tensor | None = None, **kwargs: Any) -> Output:
        x = pixel_values.flatten(1).float()
        for layer in self.layers:
            x = F.relu(layer(x)) * self.scale / math.sqrt(x.shape[-1])
        loss = None if labels is None else F.mse_loss(x, labels)
        names = {f"layer_{number}": layer for number, layer in enumerate(self.layers)}
        print("{:>8} of {}".format(len(names), "layers" + " in all"), dict(**{f"heat_{x.ndim}": 1, "a" + "b": 2}))
        return Output(loss=loss, heat=torch.where(x > 0, x, torch.zeros_like(x)).mean(dim=-1, keepdim=True))
'''


def test_plain_model_code_passes(tmp_path):
    (tmp_path / "modeling_heat.py").write_text(HARMLESS)
    assert [*code_faults(tmp_path / "modeling_heat.py")] == []


@pytest.fixture(scope="module")
def good(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("good")
    build(save_tiny_sat(folder / "model"), folder / "tiny", license="mit")
    return folder / "tiny"


@pytest.fixture
def repository(good, tmp_path) -> Path:
    import shutil

    return Path(shutil.copytree(good, tmp_path / "tiny"))


class Calls:
    def __reduce__(self):
        return print, ("called",)


def zipped_behind(file: Path) -> None:
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("data.pkl", b"x")
    file.write_bytes(b"\x89PNG\r\n\x1a\n" + file.read_bytes())


def change(name: str, key: str, value: object):
    def apply(folder: Path) -> None:
        document = json.loads((folder / name).read_text()) if (folder / name).is_file() else {}
        (folder / name).write_text(json.dumps(document | {key: value}))

    return apply


def put(name: str, contents: bytes | str):
    def apply(folder: Path) -> None:
        (folder / name).write_bytes(contents.encode() if isinstance(contents, str) else contents)

    return apply


def duplicate_key(folder: Path) -> None:
    text = (folder / "config.json").read_text()
    (folder / "config.json").write_text('{"model_type": "bert",' + text.lstrip()[1:])


FILES = {
    "link to a file": lambda folder: (folder / "notes.txt").symlink_to("/etc/passwd"),
    "link to a folder": lambda folder: (folder / "more").symlink_to("/etc"),
    "link to a device": lambda folder: (folder / "notes.txt").symlink_to("/dev/zero"),
    "link within": lambda folder: (folder / "notes.txt").symlink_to("README.md"),
    "pipe": lambda folder: os.mkfifo(folder / "notes.txt"),
    "library": put("libx.so", b"\x7fELF" + bytes(100)),
    "library by another name": put("notes.txt", b"\x7fELF" + bytes(100)),
    "windows program": put("setup.exe", b"MZ" + bytes(100)),
    "shell script": put("setup.sh", "#!/bin/sh\nid\n"),
    "shell script by another name": put("NOTICE", "#!/bin/sh\nid\n"),
    "compiled python": put("losses_sat.pyc", bytes(100)),
    "pickle 0": put("notes.txt", pickle.dumps(Calls(), 0)),
    "pickle 0, cut short": put("notes.txt", pickle.dumps(Calls(), 0)[:-1]),
    "pickle 1": put("notes.txt", pickle.dumps(Calls(), 1)),
    "pickle 2": put("notes.txt", pickle.dumps(Calls(), 2)),
    "pickle 5": put("notes.json", pickle.dumps(Calls(), 5)),
    "pickle by hand": put("notes.txt", b"(S'id'\nios\nsystem\n."),
    "array of objects": put("notes.txt", b"\x93NUMPY\x01\x00" + bytes(100)),
    "hdf5": put("notes.txt", b"\x89HDF\r\n\x1a\n" + bytes(100)),
    "zip behind an image": lambda folder: zipped_behind(folder / "image.png"),
    "bzip2": put("notes.txt", bz2.compress(b"x")),
    "xz": put("notes.txt", lzma.compress(b"x")),
    "image that is none": put("image.png", "no image"),
    "text that is none": put("notes.txt", bytes(range(256))),
    "unknown type": put("model.onnx", "x"),
    "svg with a script": put("image.svg", "<svg xmlns='http://www.w3.org/2000/svg'><script>1</script></svg>"),
    "svg with a handler": put("image.svg", "<svg onload = 'x()'></svg>"),
    "odd name": put("a\nb.txt", "x"),
    "name of a device": put("con.txt", "x"),
    "two names in one": lambda folder: (put("Notes.txt", "x")(folder), put("notes.txt", "x")(folder)),
    "key given twice": duplicate_key,
    "deep json": put("more.json", "[" * 5000 + "]" * 5000),
    "long number": put("more.json", "{\"a\": " + "9" * 5000 + "}"),
    "alias bomb": put("more.yaml", "a: &a [x, x]\n" + "".join(
        f"{chr(98 + i)}: &{chr(98 + i)} [{', '.join(['*' + chr(97 + i)] * 9)}]\n" for i in range(12))),
    "chat template": change("tokenizer_config.json", "chat_template", "{{ x.__class__ }}"),
    "chat template's file": put("chat_template.jinja", "{{ x }}"),
    "code of another repository": change("config.json", "auto_map", {"AutoModel": "someone/else--modeling.Model"}),
    "tokenizer of another repository": change(
        "tokenizer_config.json", "auto_map", {"AutoTokenizer": ["someone/else--tok.Tok", None]}),
    "pipeline of another repository": change(
        "config.json", "custom_pipelines", {"x": {"impl": "someone/else--pipeline.P", "pt": ["AutoModel"]}}),
    "nested code of another repository": change(
        "config.json", "vision_config", {"auto_map": {"AutoModel": "someone/else--modeling.Model"}}),
    "code in a file of another name": change("more.json", "auto_map", {"AutoModel": "a/b--c.D"}),
    "adapter beside the model": put("adapter_config.json", '{"base_model_name_or_path": "someone/else"}'),
    "module to import": change("more.json", "auto_mapping", {"parent_library": "os"}),
    "kernel of experts": change("config.json", "experts_implementation", "someone/kernel"),
    "kernel for every part": change("config.json", "attn_implementation", {"": "someone/kernel"}),
    "kernel from the hub": change("config.json", "_attn_implementation", "someone/kernel"),
    "fetched backbone": change("config.json", "use_pretrained_backbone", True),
    "trust in a config": change("tokenizer_config.json", "trust_remote_code", True),
    "file elsewhere": change("tokenizer_config.json", "vocab_file", "../../secrets.txt"),
    "weights elsewhere": put("model.safetensors.index.json", '{"weight_map": {"a": "../x.safetensors"}}'),
    "index of another place": put("requirements.txt", "-i http://192.0.2.1/\ntorch\n"),
    "package from a repository": put("requirements.txt", "torch @ git+https://example.org/x\n"),
    "unknown package": put("requirements.txt", "torch\ntorchh\n"),
}  # fmt: skip


@pytest.mark.skipif(sys.platform == "win32", reason="links, pipes and names of POSIX")
@pytest.mark.parametrize("name", FILES)
def test_disguised_files_and_settings_are_refused_and_nothing_is_loaded(name, repository, monkeypatch):
    FILES[name](repository)
    if "link" not in name and name != "pipe":
        write_manifest(repository)
    monkeypatch.setattr("stmine_hf.hub.check.check_loading", lambda folder: pytest.fail("it was loaded"))
    report = check(repository)
    failed = {line.check for line in report.findings if line.outcome == "failed"}
    assert failed & {"entries", "no pickles", "configs", "code"}


def test_overlapping_and_cut_weights_are_refused(repository):
    weights = repository / "model.safetensors"
    whole = weights.read_bytes()
    save_file(load_file(weights), weights, metadata={"format": "pt"})
    size = int.from_bytes(whole[:8], "little")
    header = json.loads(whole[8 : 8 + size])
    first, second, *_ = [name for name in header if name != "__metadata__"]
    header[second]["data_offsets"] = header[first]["data_offsets"]
    text = json.dumps(header).encode()
    for data in (whole[:-9], len(text).to_bytes(8, "little") + text + whole[8 + size :], b"\xff" * 8 + whole[8:]):
        weights.write_bytes(data)
        write_manifest(repository)
        assert "no pickles" in {line.check for line in check(repository).findings if line.outcome == "failed"}


@pytest.mark.parametrize(
    "text", ["{" * 100, "&a [*a]", "- " * 200, "a: 1\na: 2", "x: " + "9" * 5000, "!!python/name:os.system"]
)
def test_yaml_beyond_its_bounds_is_refused(text):
    with pytest.raises(DocumentError):
        parse_yaml(text, "it")


def test_documents_within_bounds_are_read():
    assert parse_yaml("a: &x [1, 2]\nb: *x\nc: {d: 1.5}", "it") == {"a": [1, 2], "b": [1, 2], "c": {"d": 1.5}}
    assert parse_json('{"a": [1, {"b": null}]}', "it") == {"a": [1, {"b": None}]}
    for text in ('{"a": 1, "a": 2}', "[" * 9000, '{"a": ' + "1" * 30 + "}", "nonsense"):
        with pytest.raises(DocumentError):
            parse_json(text, "it")


# What a script tries in the sandbox, and what must not come of it.
ESCAPES = {
    "write": "open({place!r} + '/x', 'w').write('x')",
    "append": "open({file!r}, 'a').write('x')",
    "remove": "import os; os.remove({file!r})",
    "rename": "import os; os.rename({file!r}, {file!r} + 'x')",
    "folder": "import os; os.mkdir({place!r} + '/x')",
    "read": "print(open({file!r}).read())",
    "program": "import subprocess; print(subprocess.run(['/bin/echo', 'secret'], capture_output=True, text=True).stdout)",
    "library call": "import ctypes; ctypes.CDLL(None).system(b'echo secret > ' + {place!r}.encode() + b'/x')",
    "connection": "import socket; print(socket.create_connection(('127.0.0.1', {port}), 2).recv(9).decode())",
    "memory": "x = bytearray(200_000_000_000); print('secret')",
    "environment": "import os; print(os.environ.get('HF_TOKEN'))",
    "kill": "import os, signal; os.kill({pid}, signal.SIGKILL)",
}  # fmt: skip


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="namespaces and Landlock are Linux's")
@pytest.mark.parametrize("name", ESCAPES)
def test_a_script_in_the_sandbox_reaches_nothing(name, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "secret")
    place, script = tmp_path / "home", tmp_path / "code" / "script.py"
    place.mkdir()
    script.parent.mkdir()
    (place / "file.txt").write_text("secret")
    with socket.create_server(("127.0.0.1", 0)) as server:
        values = {"place": str(place), "file": str(place / "file.txt"), "pid": os.getpid()}
        code = ESCAPES[name].format(port=server.getsockname()[1], **values)
        script.write_text(
            "import contextlib, io, json\nsaid = io.StringIO()\nwith contextlib.redirect_stdout(said):\n"
            f"    try:\n        {code}\n    except BaseException as error:\n        print(repr(error))\n"
            "print(json.dumps({'said': said.getvalue()}))\n"
        )
        ended = run_in_sandbox(str(script), [], tmp_path / "work", [])
    layers = ended[1] if isinstance(ended, tuple) else []
    if not {"namespaces", "Landlock", "limits"} <= {*layers}:
        pytest.skip(f"this system has {layers} only: {ended}")
    assert isinstance(ended, tuple) and "secret" not in ended[0]["said"]
    assert {path.name: path.read_text() for path in place.iterdir()} == {"file.txt": "secret"}


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="links and pipes as Linux has them")
@pytest.mark.parametrize("kind", ["link", "pipe"])
def test_what_a_script_leaves_in_its_folder_is_not_opened(kind, tmp_path):
    """Neither waits the caller for a pipe, nor does it read or write through a link."""
    (tmp_path / "file.txt").write_text("secret")
    (tmp_path / "code").mkdir()
    script = tmp_path / "code" / "script.py"
    make = {"link": f"os.symlink({str(tmp_path / 'file.txt')!r}, name)", "pipe": "os.mkfifo(name)"}[kind]
    script.write_text(
        "import os\nfor name in ('stdout', 'stderr', 'sandbox.json', 'report', 'specification.json'):\n"
        f"    if os.path.exists(name): os.remove(name)\n    {make}\nprint('{{}}')\n"
    )
    ended = run_in_sandbox(str(script), [], tmp_path / "work", [])
    assert isinstance(ended, tuple) and ended[0] == {}
    assert (tmp_path / "file.txt").read_text() == "secret"


def test_code_of_ones_own_has_to_be_read(tmp_path):
    """No list is complete: whatever passes it is named."""
    folder = tmp_path / "model"
    shutil.copytree(ROOT / "hub_cards" / "sat-coco-small", folder)
    assert check_own_code(folder) is None
    (folder / "extra_sat.py").write_text("WIDTH = 3\n")
    found = check_own_code(folder)
    assert found is not None and found.outcome == "warning" and "extra_sat.py" in found.detail


def test_wraps_reads_no_attributes_by_built_names(tmp_path):
    (tmp_path / "a.py").write_text(
        "import functools\nfrom torch import nn\n"
        'functools.wraps(nn.functional.relu, assigned=("__glo" + "bals__",), updated=())(nn.Module())\n'
    )
    assert any("functools" in fault for fault in code_faults(tmp_path / "a.py"))


@pytest.mark.parametrize(
    "module", [{"type": "extra.Module", "path": ""}, {"type": "sentence_transformers.x.Y", "path": "../up"}]
)
def test_modules_of_sentence_transformers_are_its_own(tmp_path, module):
    folder = tmp_path / "model"
    shutil.copytree(ROOT / "hub_cards" / "fisvl-lite-rsicd", folder)
    assert check_configs(folder).outcome == "ok"
    (folder / "modules.json").write_text(json.dumps([module]))
    found = check_configs(folder)
    assert found.outcome == "failed" and "expected one of sentence_transformers" in found.detail


@pytest.mark.parametrize(
    "shipped", sorted(path.parent.name for path in (ROOT / "hub_cards").glob("*/model.safetensors"))
)
def test_files_of_the_shipped_models_pass(shipped):
    """All but the loading, which a slow test does."""
    report = check(ROOT / "hub_cards" / shipped, load=False)
    assert not [finding for finding in report.findings if finding.outcome == "failed"]


@pytest.mark.parametrize(
    "code",
    [
        "import inspect\nA = 3\ninspect.signature(A, eval_str=True)",
        'from inspect import signature as look\nlook(3, **{"eval" + "_str": True})',
        "from inspect import signature\nfrom functools import partial\npartial(signature, eval_str=True)(3)",
        'A = type("A", (), {"__anno" + "tations__": {"x": "1"}})',
        'make = type\nmake("A", (), {})',
        'make = type[int]\nmake("A", (), {})',
        "from dataclasses import dataclass\nclass A:\n    x: int = 1\nB = dataclass(A)",
        "import dataclasses as d\nK = d.dataclass(init=False, eq=False)(int)",
    ],
)
def test_functions_that_make_code_of_texts_are_bounded(tmp_path, code):
    (tmp_path / "a.py").write_text(code + "\n")
    assert any(
        re.search(r"(calls|uses) (type|inspect\.signature|dataclasses\.dataclass)", one)
        for one in code_faults(tmp_path / "a.py")
    )


def test_their_plain_use_is_allowed(tmp_path):
    (tmp_path / "a.py").write_text(
        "from dataclasses import dataclass\nfrom inspect import signature\n\n\n"
        "@dataclass\nclass A:\n    x: int = 1\n\n\n@dataclass(frozen=True)\nclass B:\n    x: int = 1\n\n\n"
        "print(type(3), signature(A))\n\n\n"
        "def same(kind: type[int], *others: list[type[int]]) -> type[int] | None:\n    return kind\n"
    )
    assert list(code_faults(tmp_path / "a.py")) == []
