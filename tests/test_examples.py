"""Scripts in `examples/` use public names alone: what a module lists in its `__all__`."""

from __future__ import annotations

import ast
from importlib import import_module

import pytest
from documents import ROOT

SCRIPTS = sorted((ROOT / "examples").glob("**/*.py"))
# Files of `modeling/` go to the Hub as they stand; what these scripts measure is inside of them.
INSIDE = {"build_fisvl_lite.py", "build_mttv_lite.py", "fisvl.py", "metrics.py", "mttv.py"}


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.name)
def test_a_script_imports_public_names_only(script):
    found = []
    for node in ast.walk(ast.parse(script.read_text(encoding="utf-8"))):
        module = getattr(node, "module", None) or ""
        if not isinstance(node, ast.ImportFrom) or module.partition(".")[0] != "stmine_hf":
            continue
        if script.name in INSIDE and module.startswith("stmine_hf.modeling."):
            continue
        public = getattr(import_module(module), "__all__", ())
        found += [f"line {node.lineno}: {module}.{name.name}" for name in node.names if name.name not in public]
    assert not found, f"no names of an __all__: {found}"
