"""Texts that code builds of pieces that are written out: sums, f-strings, joined lists, formats, cut texts."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator
from functools import partial
from itertools import islice, product
from operator import getitem, mod

_MOST = 64  # values of one expression that are followed
_PASSES = 4  # over the assignments: a variable may be built of another one
_LONGEST = 1000  # letters of one that is followed
_PLAIN_FORMAT = re.compile(r"(\{\w*\}|[^{}])*")  # without widths, by which a text takes any amount of memory
_METHODS = frozenset({
    "capitalize", "casefold", "format", "join", "lower", "lstrip", "removeprefix", "removesuffix", "replace", "rstrip",
    "strip", "swapcase", "title", "upper",
})  # fmt: skip


class Texts:
    """The texts that expressions of a file may stand for, as far as its code says.

    Args:
        tree: of the file. A name stands for all texts that are assigned to it anywhere.
    """

    def __init__(self, tree: ast.Module):
        self._names: dict[str, set[str]] = {}
        self._lists: dict[str, list[ast.expr]] = {}
        bound = [*_bindings(tree)]
        for name, value in bound:
            if isinstance(value, ast.List | ast.Tuple):
                self._lists.setdefault(name, []).append(value)
        for _ in range(_PASSES):
            for name, value in bound:
                if texts := self.of(value):
                    self._names.setdefault(name, set()).update(islice(texts, _MOST))

    def of(self, node: ast.expr | None) -> set[str]:
        """The texts of an expression; none where they are not known."""
        if isinstance(node, ast.Constant):
            return {node.value} if isinstance(node.value, str) and len(node.value) <= _LONGEST else set()
        if isinstance(node, ast.Name | ast.Attribute):
            return set(self._names.get(node.id if isinstance(node, ast.Name) else node.attr, ()))
        if isinstance(node, ast.IfExp):
            return self.of(node.body) | self.of(node.orelse)
        if isinstance(node, ast.BoolOp):
            return set().union(*map(self.of, node.values))
        if isinstance(node, ast.NamedExpr):
            return self.of(node.value)
        return set(islice((text for text in self._built(node) if len(text) <= _LONGEST), _MOST))

    def _built(self, node: ast.expr | None) -> Iterator[str]:
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
            yield from map("".join, product(self.of(node.left), self.of(node.right)))
        elif isinstance(node, ast.BinOp) and isinstance(node.op, ast.Mod):
            parts = node.right.elts if isinstance(node.right, ast.Tuple) else [node.right]
            for text, *values in product(self.of(node.left), *map(self.of, parts)):
                if "%" not in text.replace("%s", ""):
                    yield from _tried(mod, text, tuple(values))
        elif isinstance(node, ast.JoinedStr):
            yield from map("".join, product(*map(self.of, node.values)))
        elif isinstance(node, ast.FormattedValue):
            yield from self.of(node.value)
        elif isinstance(node, ast.Subscript):
            try:
                place = eval_slice(node.slice)
            except ValueError:
                return
            for text in self.of(node.value):
                yield from _tried(getitem, text, place)
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in _METHODS:
            yield from self._called(node, node.func)

    def _called(self, node: ast.Call, called: ast.Attribute) -> Iterator[str]:
        receivers = self.of(called.value)
        if called.attr == "join":
            for pieces in (one for part in node.args for one in self._listed(part)):
                for text, *parts in product(receivers, *map(self.of, pieces)):
                    yield text.join(parts)
            return
        names = [word.arg or "" for word in node.keywords]
        values = [*map(self.of, node.args), *(self.of(word.value) for word in node.keywords)]
        for text, *given in product(receivers, *values):
            if called.attr == "format" and not _PLAIN_FORMAT.fullmatch(text):
                continue
            positional, named = given[: len(node.args)], dict(zip(names, given[len(node.args) :], strict=True))
            yield from _tried(partial(getattr(text, called.attr), **named), *positional)

    def _listed(self, node: ast.expr) -> Iterator[list[ast.expr]]:
        if isinstance(node, ast.List | ast.Tuple):
            yield node.elts
        elif isinstance(node, ast.Name | ast.Attribute):
            for one in self._lists.get(node.id if isinstance(node, ast.Name) else node.attr, ()):
                yield from self._listed(one)
        elif texts := self.of(node):
            for text in texts:
                yield [ast.Constant(letter) for letter in text[:100]]


def eval_slice(node: ast.expr) -> int | slice:
    """A place or slice of whole numbers that are written out.

    Raises:
        ValueError: it is something else.
    """
    if isinstance(node, ast.Slice):
        return slice(
            *(None if part is None else ast.literal_eval(part) for part in (node.lower, node.upper, node.step))
        )
    place = ast.literal_eval(node)
    if not isinstance(place, int):
        raise ValueError(place)
    return place


def _bindings(tree: ast.Module) -> Iterator[tuple[str, ast.expr]]:
    """Each name or attribute, and what is assigned to it or is its default."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign | ast.AnnAssign | ast.NamedExpr) and node.value is not None:
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            for target in targets:
                if isinstance(target, ast.Tuple | ast.List) and isinstance(node.value, ast.Tuple | ast.List):
                    pairs = zip(target.elts, node.value.elts, strict=False)
                else:
                    pairs = zip([target], [node.value], strict=True)
                for one, value in pairs:
                    if name := getattr(one, "id", None) or getattr(one, "attr", None):
                        yield name, value
        elif isinstance(node, ast.For | ast.comprehension) and isinstance(node.target, ast.Name):
            if isinstance(node.iter, ast.List | ast.Tuple | ast.Set):
                yield from ((node.target.id, value) for value in node.iter.elts)
        elif isinstance(node, ast.arguments):
            places = [*node.posonlyargs, *node.args]
            given = [*zip(places[len(places) - len(node.defaults) :], node.defaults, strict=True)]
            for argument, default in [*given, *zip(node.kwonlyargs, node.kw_defaults, strict=True)]:
                if default is not None:
                    yield argument.arg, default


def _tried(make: Callable[..., object], *given: object) -> Iterator[str]:
    try:
        made = make(*given)
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError):
        return
    if isinstance(made, str):
        yield made
