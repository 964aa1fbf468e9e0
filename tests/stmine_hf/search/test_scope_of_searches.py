"""Searches outside of what the model reads: translated, refused, or said to fit nothing."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from helpers import save_tiny_fisvl
from PIL import Image

from stmine_hf.cli import main
from stmine_hf.data.toy.toy_scenes import write_scenes
from stmine_hf.errors import StmineError
from stmine_hf.inference.scope import NOTHING_FITS, Scope
from stmine_hf.search import ImageIndex

SHIPPED = Path(__file__).parents[3] / "hub_cards" / "fisvl-lite-rsicd"


@pytest.fixture
def index(tmp_path) -> ImageIndex:
    (tmp_path / "images").mkdir()
    for number in range(4):
        Image.effect_noise((40, 40), 20 * number).save(tmp_path / "images" / f"{number}.png")
    model = save_tiny_fisvl(tmp_path / "model")
    Scope("LATIN", 1.0, least_fit=2.0).save(model)  # that nothing reaches
    return ImageIndex.build(tmp_path / "images", tmp_path / "my.index", model=model, progress=False)


def run(*words, capsys) -> tuple[str, str]:
    with pytest.raises(SystemExit) as end:
        main([str(word) for word in words])
    assert not end.value.code
    return capsys.readouterr()


def test_chinese_is_searched_by_its_place_words(index):
    assert index.reads("机场上停着许多飞机") == "an airport with planes, planes"
    assert index.query("港口", k=3) == index.query("a port with ships", k=3)
    assert index.reads("a port with ships") == "a port with ships"


@pytest.mark.parametrize("sentence", ["人工智能", "самолёты", "飛行機", "비행기"])
def test_what_the_model_cannot_read_is_refused(index, sentence):
    with pytest.raises(StmineError, match=r"reads English|letters only"):
        index.query(sentence)


def test_command_says_what_was_searched_for_and_that_nothing_fits(index, tmp_path, capsys):
    out, err = run("search", tmp_path / "my.index", "港口", "--json", capsys=capsys)
    found = json.loads(out)
    assert found["read_as"] == "a port with ships" and found["warning"].startswith("No good match")
    assert "a port with ships" in err and "Warning: No good match" in err
    run("search", tmp_path / "my.index", "港口", "--out", tmp_path / "found", capsys=capsys)
    assert "No good match" in (tmp_path / "found" / "hits.html").read_text()  # not on the screen alone
    out, err = run("search", tmp_path / "my.index", tmp_path / "images" / "1.png", "--json", capsys=capsys)
    assert "warning" not in json.loads(out) and "Warning" not in err


def test_nothing_is_said_of_a_model_without_a_scope(index, tmp_path):
    (tmp_path / "model" / "scope.json").unlink()
    plain = ImageIndex.open(tmp_path / "my.index")
    assert plain.check("zzz qqq", plain.query("zzz qqq")) is None and plain.reads("港口") == "港口"


def test_shipped_model_knows_nonsense_from_places(tmp_path):
    if not (SHIPPED / "model.safetensors").is_file():
        pytest.skip("needs the shipped checkpoint: no hub_cards/fisvl-lite-rsicd/model.safetensors in this checkout")
    folder = write_scenes(tmp_path / "scenes", count=24, size=128)
    index = ImageIndex.build(folder, tmp_path / "my.index", model=SHIPPED, progress=False)
    for sentence in ("zzz qqq", "asdf", "qwe rty uiop", "xkcd foo bar", "jkl jkl jkl"):
        warned = index.check(sentence, index.query(sentence))
        assert warned is not None and warned.kind == NOTHING_FITS, sentence
    for sentence in ("many planes at an airport", "a river between green trees", "several ships at a port", "机场"):
        assert index.check(sentence, index.query(sentence)) is None, sentence


def test_many_queries_are_answered_as_single_ones(index, tmp_path):
    image = str(tmp_path / "images" / "1.png")
    queries = ["planes", "港口", "самолёты", image, "...", "no.jpg", "a port with ships", 7]
    answers = index.search(queries, k=3)
    assert [answer.error is None for answer in answers] == [True, True, False, True, False, False, True, False]
    assert len(answers.failed) == 4
    for query, answer in zip(queries, answers, strict=True):
        if answer.error is None:
            found = index.query(query, k=3)
            assert [hit.path for hit in answer] == [hit.path for hit in found]
            assert [hit.score for hit in answer] == pytest.approx([hit.score for hit in found], abs=1e-5)
            assert (answer.warning is None) == (query == image)
            if query != image:
                assert answer.warning == index.check(query, found).message
        else:
            with pytest.raises(StmineError):
                index.search(query)
    assert answers[1].read_as == "a port with ships" and answers[0].read_as is None
    assert "letters only" in answers[2].error and "no such image" in answers[5].error
    table = answers.to_pandas()
    assert list(table.columns)[:5] == ["query", "rank", "score", "image", "no_good_match"] and len(table) == 16
    with pytest.raises(ValueError, match="nothing to search for"):
        index.search("...")
    assert index.search([]) == [] and len(index.search("planes", k=100)) == 4


def test_an_answer_as_dictionary_and_files(index, tmp_path):
    answer = index.search("planes", k=2)
    assert json.loads(answer.save(tmp_path / "a.json").read_text()) == answer.to_dict()
    with Image.open(answer.save(tmp_path / "a.png")) as sheet:
        assert sheet.size == answer.plot().size
    assert "planes" in answer.save(tmp_path / "a.html").read_text()
    with pytest.raises(ValueError, match=r"\.png, \.html or \.json"):
        answer.save(tmp_path / "a.gif")


@pytest.mark.parametrize("name", ["q.txt", "q.csv", "q.jsonl"])
def test_files_of_queries(index, tmp_path, capsys, name):
    queries = ["planes", "港口", "самолёты"]
    texts = {
        "q.txt": "\n\n".join(queries) + "\n",
        "q.csv": "id,query\n" + "".join(f"{number},{one}\n" for number, one in enumerate(queries)),
        "q.jsonl": "".join(json.dumps({"caption": one}) + "\n" for one in queries),
    }
    (tmp_path / name).write_text(texts[name], encoding="utf-8")
    words = ["search", str(tmp_path / "my.index"), "--queries", str(tmp_path / name), "--k", "2"]
    out, err = run(*words, capsys=capsys)
    rows = [json.loads(line) for line in out.splitlines()]
    assert [(row["query"], row.get("rank")) for row in rows] == [
        ("planes", 1), ("planes", 2), ("港口", 1), ("港口", 2), ("самолёты", None),
    ]  # fmt: skip
    assert rows[0]["no_good_match"] and rows[2]["read_as"] == "a port with ships" and "error" in rows[4]
    assert "3 queries, 2 without a good match, 1 refused" in err
    run(*words, "--out", tmp_path / "h.jsonl", capsys=capsys)
    assert (tmp_path / "h.jsonl").read_text(encoding="utf-8") == out


def test_queries_from_standard_input_and_other_columns(index, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("sys.stdin", iter(["planes\n", "\n", "ships\n"]))
    out, _ = run("search", tmp_path / "my.index", "--queries", "-", "--k", 1, capsys=capsys)
    assert [json.loads(line)["query"] for line in out.splitlines()] == ["planes", "ships"]
    (tmp_path / "q.csv").write_text("wanted\nplanes\n")
    words = ["search", str(tmp_path / "my.index"), "--queries", str(tmp_path / "q.csv"), "--k", "1"]
    assert json.loads(run(*words, "--column", "query=wanted", capsys=capsys)[0])["query"] == "planes"
    for more, part, code in (
        ([], "has no column 'query', but wanted", 1),
        (["--out", str(tmp_path / "hits")], "ends with .jsonl", 2),
        (["planes"], "a QUERY, or --queries", 2),
    ):
        with pytest.raises(SystemExit) as end:
            main([*words[:2], *more[:1], *words[2:]] if more == ["planes"] else [*words, *more])
        assert end.value.code == code and part in " ".join(capsys.readouterr().err.replace("│", " ").split())
