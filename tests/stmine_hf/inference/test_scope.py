"""The scope of a model: what lies outside of it is warned of, and nothing is said where nothing is known."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest

from stmine_hf.errors import StmineError
from stmine_hf.inference.scope import (
    FILE,
    NO_TEXT,
    NOTHING_FITS,
    OTHER_SCRIPT,
    TOO_SHORT,
    Scope,
    fit,
    nonsense,
    scripts,
)

CHINESE = Scope("CJK", 0.77, 7, needs_text=True)
ENGLISH = Scope("LATIN", 1.0, least_fit=0.27)


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("紧急通知！港口上空出现红色圆形", None),
        ("緊急通知：港口上空出現紅色圓形", None),  # traditional
        ("iPhone 在港口上空出现红色圆形，专家说今晚会掉下来，请马上转发", None),
        ("紧急通知，港口上空出现 https://t.cn/AbCdEfGh12345 @harbour_police", None),  # links and names do not count
        ("Forward this before it is deleted!", OTHER_SCRIPT),
        ("Срочно! Перешлите это всем", OTHER_SCRIPT),
        ("これは本当ですか？みんなに転送してください", OTHER_SCRIPT),
        ("이것을 모두에게 전달하세요", OTHER_SCRIPT),
        ("Breaking news from the port: 紧急通知 please share", OTHER_SCRIPT),
        ("好恐怖", TOO_SHORT),
        ("123 !!! 😱", TOO_SHORT),
        ("", NO_TEXT),
        (" \n", NO_TEXT),
    ],
)
def test_texts_outside_of_the_training_are_warned_of(text, kind):
    warned = CHINESE.check_text(text)
    assert (warned and warned.kind) == kind
    if warned:
        assert all(str(value) in warned.message for value in warned.values.values() if isinstance(value, (int, str)))


def test_posts_without_a_text_are_fine_where_the_training_had_some():
    assert Scope("CJK", 0.77, 7).check_text("") is None


@pytest.mark.parametrize(
    ("query", "warned"),
    [("a port with ships", False), ("la rivière", False), ("42", False), ("порт", True), ("機場", True)],
)
def test_sentences_in_another_script(query, warned):
    assert bool(ENGLISH.check_query(query)) == warned


def test_nothing_fits_below_the_bound():
    assert ENGLISH.check_fit(0.5, 0.4) is None and fit(0.5, 0.4) == pytest.approx(0.3)
    warned = ENGLISH.check_fit(0.5, 0.6)
    assert warned is not None and warned.kind == NOTHING_FITS
    assert CHINESE.check_fit(0.0, 0.9) is None  # does not search
    assert nonsense() == nonsense() and len(set(nonsense(50))) > 40


def test_scripts_of_letters():
    assert scripts("港口 port 3 @name &nbsp; http://a.b/c") == {"CJK": 2, "LATIN": 4}
    assert scripts("") == {}


def test_file_beside_the_model(tmp_path):
    model = SimpleNamespace(name_or_path=str(tmp_path), config=SimpleNamespace())
    assert Scope.of(model) is None
    for scope in (CHINESE, ENGLISH):
        assert scope.save(tmp_path) == tmp_path / FILE and Scope.of(model) == scope
    assert Scope.of(SimpleNamespace(name_or_path="", config=SimpleNamespace())) is None
    assert Scope.of(SimpleNamespace(name_or_path="/no/such folder", config=SimpleNamespace())) is None
    document = json.loads((tmp_path / FILE).read_text())
    (tmp_path / FILE).write_text(json.dumps({**document, "of a later version": 1}))
    assert Scope.of(model) == ENGLISH


@pytest.mark.parametrize(
    "content",
    [
        b"", b"[]", b"{}", b"\xff\xfe", b'{"script": "CJK"}', b'{"script": 3, "least_share": 0.5}',
        b'{"script": "CJK", "least_share": "much"}', b'{"script": "CJK", "least_share": NaN}', b"[" * 60_000,
        b'{"script": "CJK", "least_share": 0.5, "least_letters": null}', b" " * 70_000,
        b'{"script": "CJK", "least_share": 0.5, "least_fit": "low"}',
        b'{"script": "CJK", "least_share": 1' + b"0" * 5000 + b"}",
    ],
)  # fmt: skip
def test_damaged_file_is_refused_by_name(tmp_path, content):
    (tmp_path / FILE).write_bytes(content)
    with pytest.raises(StmineError, match=FILE):
        Scope.of(SimpleNamespace(name_or_path=str(tmp_path), config=SimpleNamespace()))
