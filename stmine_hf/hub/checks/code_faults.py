"""What in a code file is not on the lists of `allowed`: imports, names, attributes, calls, strings."""

from __future__ import annotations

import ast
import builtins
import re
from collections.abc import Iterator, Mapping, Set
from functools import cache
from pathlib import Path

from .allowed import (
    BUILTINS,
    DUNDERS,
    METHODS,
    MODULES,
    NAMES_OF_ARGUMENTS,
    PACKAGES,
    REFUSED,
    attributes,
    inherited,
    is_allowed,
)
from .code_annotations import annotation_faults, annotations_in
from .code_kernels import kernel_faults
from .code_tree import bound_names, defined_names, own_names, parsed

_DUNDER = re.compile(r"__\w+__|\{[^{}]*(\.|\[)[^{}]*_")  # in strings: names for getattr, attributes for str.format


def code_faults(file: Path) -> Iterator[str]:
    """What in a code file is not on the lists of `allowed`, with its line."""
    tree = parsed(file)
    if isinstance(tree, str):
        yield tree
        return
    siblings = [parsed(sibling) for sibling in file.parent.glob("*.py")]
    own = {name for one in siblings if isinstance(one, ast.Module) for name in own_names(one)} - inherited()
    own |= _library_attributes() - REFUSED
    aliases: dict[str, set[str]] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            yield from _import_faults(node, file.parent, aliases)
    found = [*_Walk(tree, aliases, own).faults, *annotation_faults(tree, file.parent), *kernel_faults(tree)]
    yield from sorted({f"line {line} {fault}" for line, fault in found}, key=_line_of)


@cache
def _library_attributes() -> frozenset[str]:
    """Names of attributes that this package's own model code uses."""
    from ...methods import METHODS
    from ..model_files import code_files

    trees = [parsed(file) for method in METHODS for file in code_files(method).values()]
    nodes = (node for tree in trees if isinstance(tree, ast.Module) for node in ast.walk(tree))
    return frozenset(node.attr for node in nodes if isinstance(node, ast.Attribute) and not node.attr.startswith("__"))


def _line_of(fault: str) -> int:
    return int(fault.split()[1])


def _import_faults(node: ast.Import | ast.ImportFrom, folder: Path, aliases: dict[str, set[str]]) -> Iterator[str]:
    """Faults of an import; what it binds is added to `aliases`, by the dotted name that it stands for."""
    if isinstance(node, ast.Import):
        for alias in node.names:
            if alias.name not in MODULES:
                yield f"line {node.lineno} imports {alias.name}, which a published model does not need"
            bound = alias.asname or alias.name.partition(".")[0]
            aliases.setdefault(bound, set()).add(alias.name if alias.asname else bound)
    elif node.level:
        sibling = folder / f"{node.module}.py"
        if node.level > 1 or not node.module or not node.module.isidentifier() or not sibling.is_file():
            yield f"line {node.lineno}: only `from .sibling import name` of a file beside it reaches the Hub"
            return
        defined = defined_names(sibling)
        for alias in node.names:
            if alias.name not in defined:
                yield f"line {node.lineno} imports {alias.name}, which {sibling.name} does not define itself"
    else:
        for alias in node.names:
            path = f"{node.module}.{alias.name}"
            if not is_allowed(path):
                shown = path if (node.module or "").partition(".")[0] in PACKAGES else node.module
                yield f"line {node.lineno} imports {shown}, which a published model does not need"
            aliases.setdefault(alias.asname or alias.name, set()).add(path)


# Functions that turn text into code or make classes of any names, unless they are used in this way.
_BOUNDED = {
    "abc.ABCMeta": "as the metaclass of a class",
    "type": "with one object",
    "inspect.signature": "with one callable",
    "dataclasses.dataclass": "as the decorator of a class",
}


_MAKES_TYPES = re.compile(r"typing\.(NamedTuple|TypedDict|Annotated|Optional|Union|Type|List|Dict|Tuple)")


def _annotated_classes(tree: ast.Module) -> Iterator[int]:
    """The `type` of every `type[Class]` that is an annotation, or a part of one."""
    for one in annotations_in(tree):
        yield from (id(part.value) for part in ast.walk(one) if isinstance(part, ast.Subscript))


def _harmless_types(tree: ast.Module) -> Iterator[int]:
    """Calls `type(x)` whose result is compared, shown, asked for its name, or made another object of.

    Of a class it is the metaclass, which makes classes with any attributes.
    """
    for node in ast.walk(tree):
        if isinstance(node, ast.Compare):
            yield from map(id, (node.left, *node.comparators))
        elif isinstance(node, ast.Attribute | ast.FormattedValue):
            yield id(node.value)
        elif isinstance(node, ast.Call):
            if isinstance(node.func, ast.Name) and node.func.id in (
                "isinstance",
                "issubclass",
                "print",
                "repr",
                "str",
            ):
                yield from map(id, node.args)
            starred = any(isinstance(one, ast.Starred) for one in node.args)
            if not starred and len(node.args) != 3:
                yield id(node.func)


class _Walk(ast.NodeVisitor):
    """Compares every name, attribute and call of a file with the lists of `allowed`."""

    def __init__(self, tree: ast.Module, aliases: Mapping[str, set[str]], own: Set[str]) -> None:
        self.calls = set[int]()
        self.aliases, self.faults = aliases, list[tuple[int, str]]()
        self.docstrings = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
        self.own = own
        classes = [node for node in ast.walk(tree) if isinstance(node, ast.ClassDef)]
        self.decorators = {id(one) for node in classes for one in node.decorator_list}
        called = [one for node in classes for one in node.decorator_list if isinstance(one, ast.Call)]
        self.decorators |= {id(one.func) for one in called}
        self.annotated = set(_annotated_classes(tree))
        self.metaclasses = {id(word.value) for node in classes for word in node.keywords if word.arg == "metaclass"}
        self.harmless_types = set(_harmless_types(tree)) | {
            id(part.value) for part in ast.walk(tree) if isinstance(part, ast.Expr)
        }
        # A local `eval` does not allow the builtin of that name.
        self.bound = bound_names(tree) - ({*dir(builtins)} - BUILTINS - NAMES_OF_ARGUMENTS)
        self.visit(tree)

    def fault(self, node: ast.AST, words: str) -> None:
        self.faults.append((getattr(node, "lineno", 0), words))

    def _bounded(self, node: ast.AST) -> str | None:
        """Which function of `_BOUNDED` a name or attribute stands for."""
        base, names = _chain(node) if isinstance(node, ast.Attribute) else (node, [])
        if not isinstance(base, ast.Name):
            return None
        if base.id == "type" and not names:
            return "type"
        paths = {".".join([path, *names]) for path in self.aliases.get(base.id, ())}
        return next((name for name in _BOUNDED if name in paths), None)

    def _bounded_use(self, node: ast.AST) -> None:
        name = self._bounded(node)
        if name == "abc.ABCMeta" and id(node) in self.metaclasses:
            return
        if name and id(node) not in self.calls | self.decorators | self.annotated:
            self.fault(node, f"uses {name} as a value")

    def visit_Name(self, node: ast.Name) -> None:
        self._bounded_use(node)
        if node.id in self.aliases:
            if not isinstance(node.ctx, ast.Load):
                self.fault(node, f"assigns to the imported name {node.id}")
            elif any(path in MODULES for path in self.aliases[node.id]):
                self.fault(node, f"uses the module {node.id} as a value")
        elif node.id.startswith("__") and node.id not in DUNDERS:
            self.fault(node, f"names {node.id}")
        elif isinstance(node.ctx, ast.Load) and node.id not in self.bound | BUILTINS | DUNDERS:
            self.fault(node, f"names {node.id}, which is neither defined here nor a harmless builtin")

    def visit_Attribute(self, node: ast.Attribute) -> None:
        self._bounded_use(node)
        base, names = _chain(node)
        if not (isinstance(base, ast.Name) and base.id in self.aliases):
            self._attribute(node, node.attr)
            self.visit(node.value)
            return
        if not isinstance(node.ctx, ast.Load):
            self.fault(node, f"assigns to {ast.unparse(node)}, which belongs to another package")
        for path in self.aliases[base.id]:
            rest = list(names)
            while rest and path in MODULES:
                path = f"{path}.{rest.pop(0)}"
                if not is_allowed(path):
                    self.fault(node, f"calls {path}()" if self._called(node) else f"uses {path}")
                    return
            if path in MODULES:
                self.fault(node, f"uses the module {path} as a value")
            for name in rest:
                self._attribute(node, name)

    def _called(self, node: ast.Attribute) -> bool:
        return id(node) in self.calls

    def _attribute(self, node: ast.AST, name: str) -> None:
        known = name in attributes() or name in self.own or name in DUNDERS
        if not known or (name.startswith("__") and name not in DUNDERS):
            self.fault(node, f"uses the attribute {name}, which is not on the list of harmless ones")

    def visit_Call(self, node: ast.Call) -> None:
        self.calls.add(id(node.func))
        called = node.func
        bounded = self._bounded(called)
        plain = len(node.args) == 1 and not node.keywords and not isinstance(node.args[0], ast.Starred)
        if bounded and not (id(node) in self.decorators if bounded == "dataclasses.dataclass" else plain):
            self.fault(node, f"calls {bounded}() other than {_BOUNDED[bounded]}")
        if isinstance(called, ast.Name) and called.id in ("getattr", "hasattr", "setattr", "delattr"):
            name = node.args[1] if len(node.args) > 1 else None
            if isinstance(name, ast.Constant) and isinstance(name.value, str) and called.id in ("getattr", "hasattr"):
                self._attribute(node, name.value)
                for part in (node.args[0], *node.args[2:]):
                    self.visit(part)
                return
            self.fault(node, f"calls {called.id}() with a name that is not written out")
        if isinstance(called, ast.Name) and called.id not in self.bound | BUILTINS | self.aliases.keys():
            self.fault(node, f"calls {called.id}()")
        self._call_of_text(node)
        if bounded == "type" and id(node) not in self.harmless_types:
            self.fault(node, "uses type() as a value")
        if _is_super(called, "save_pretrained"):  # with the arguments that the caller of the model's own method chose
            for part in (*node.args, *(word.value for word in node.keywords)):
                self.visit(part)
            return
        config = isinstance(called, ast.Attribute) and called.attr == "from_config"
        if config and any(word.arg is None for word in node.keywords):
            self.fault(node, "calls from_config() with options that are not written out")
        self.generic_visit(node)

    def _call_of_text(self, node: ast.Call) -> None:
        """Calls whose texts name attributes or types: `format` of a text that is not written out, and of typing."""
        called = node.func
        if not isinstance(called, ast.Name | ast.Attribute):
            return
        text = called.value if isinstance(called, ast.Attribute) and called.attr in ("format", "format_map") else None
        if text is not None and not (isinstance(text, ast.Constant) and isinstance(text.value, str)):
            self.fault(node, "calls format() of a text that is not written out")
        base, names = _chain(called) if isinstance(called, ast.Attribute) else (called, [])
        paths = self.aliases.get(base.id, ()) if isinstance(base, ast.Name) else ()
        for path in paths:
            if _MAKES_TYPES.fullmatch(".".join([path, *names])):
                self.fault(node, f"calls {ast.unparse(called)}()")

    def visit_keyword(self, node: ast.keyword) -> None:
        self._setting(node.arg or "", node.value)
        self.generic_visit(node)

    def visit_Assign(self, node: ast.Assign) -> None:
        for target in node.targets:
            self._setting(getattr(target, "id", getattr(target, "attr", "")), node.value)
            if isinstance(target, ast.Attribute) and target.attr == "name" and ast.unparse(target.value) != "self":
                self.fault(node, "renames an object")  # dataclasses read attributes by the names of their fields
        self.generic_visit(node)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        self._setting(getattr(node.target, "id", getattr(node.target, "attr", "")), node.value)
        self.generic_visit(node)

    def _setting(self, name: str, value: ast.expr | None) -> None:
        """Settings by which transformers fetches code, or reads attributes by other names."""
        if name == "trust_remote_code":
            self.fault(value or ast.Pass(), "passes trust_remote_code")
        elif name == "attribute_map" and value is not None:
            ones = value.values if isinstance(value, ast.Dict) and None not in value.keys else [None]
            for one in ones:
                if isinstance(one, ast.Constant) and isinstance(one.value, str):
                    self._attribute(one, one.value)
                else:
                    self.fault(value, "has an attribute_map that is not written out")

    def visit_MatchClass(self, node: ast.MatchClass) -> None:
        if node.patterns and not (isinstance(node.cls, ast.Name) and node.cls.id in BUILTINS - self.bound):
            self.fault(node, "matches a class by positions, of which the code does not say what they read")
        for name in node.kwd_attrs:
            self._attribute(node, name)
        self.generic_visit(node)

    def visit_Constant(self, node: ast.Constant) -> None:
        text = node.value if isinstance(node.value, str) and id(node) not in self.docstrings else ""
        if _DUNDER.search(text) or text == "trust_remote_code":
            self.fault(node, f"has the string {text[:40]!r}")

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        if any(word.arg is None for word in node.keywords):
            self.fault(node, "makes a class with options that are not written out")
        for word in node.keywords:
            if word.arg == "metaclass" and self._bounded(word.value) != "abc.ABCMeta":
                self.fault(node, f"has the metaclass {ast.unparse(word.value)}, not ABCMeta")
        self.generic_visit(node)

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        self._method(node)

    def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> None:
        self._method(node)

    def _method(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> None:
        if node.name.startswith("__") and node.name.endswith("__") and node.name not in METHODS:
            self.fault(node, f"defines {node.name}, by which Python itself calls or reads something")
        self.generic_visit(node)


def _chain(node: ast.Attribute) -> tuple[ast.expr, list[str]]:
    """The expression that a chain of attributes begins with, and their names."""
    names: list[str] = []
    base: ast.expr = node
    while isinstance(base, ast.Attribute):
        names.insert(0, base.attr)
        base = base.value
    return base, names


def _is_super(node: ast.expr, name: str) -> bool:
    return isinstance(node, ast.Attribute) and node.attr == name and ast.unparse(node.value) == "super()"
