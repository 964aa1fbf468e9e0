"""The `stmine` command: each command reads its arguments, calls the library and prints.

torch and transformers are imported inside the commands only, so `stmine --help` answers at once.
Exit codes: 0 done, 1 something the user can mend (one red line), 2 wrong usage, 130 interrupted.
"""

from __future__ import annotations

import json
import re
import shutil
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import asdict
from hashlib import blake2b
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from textwrap import shorten
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from .errors import StmineError

if TYPE_CHECKING:
    from .search import BuildReport, Hit, ImageIndex

DEMO_PICTURES = 96  # six of each kind of toy scene: drawn and indexed in seconds
DEMO_QUERIES = (
    "many planes are parked on the gray ground of an airport",
    "a winding river runs between green trees",
    "several ships are docked at a port",
    "a baseball field beside green grass",
)

app = typer.Typer(
    name="stmine",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="""[bold]A first search, in three commands[/bold]

  stmine toy scenes --count 96

  stmine index scenes --out scenes.index

  stmine search scenes.index "many planes near a terminal"

Every command has examples of its own: stmine COMMAND --help""",
)
evaluate_app = typer.Typer(no_args_is_help=True, help="Score a model with its paper's protocol.")
convert_app = typer.Typer(no_args_is_help=True, help="Turn an authors' checkpoint into a folder that loads anywhere.")
app.add_typer(evaluate_app, name="evaluate")
app.add_typer(convert_app, name="convert")

ModelOption = Annotated[
    str | None, typer.Option("--model", help="Model folder or Hub id. Default: the fisvl-lite-rsicd of this release.")
]
DeviceOption = Annotated[str | None, typer.Option(help="cpu, cuda, mps ... Default: an accelerator if there is one.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document instead of text.")]


@app.callback()
def stmine(
    debug: Annotated[bool, typer.Option("--debug", help="Show the whole traceback when something fails.")] = False,
) -> None:
    """Search, score and convert with the models of stmine-hf.

    [bold]FISVL[/bold] finds satellite images by a sentence, or by another picture.
    """  # `main` acts on --debug, wherever it stands on the line; here it is declared for the help


@app.command(
    epilog="""[bold]Examples[/bold]

  stmine index pictures --out my.index

  stmine index pictures --model hub_cards/fisvl-lite-rsicd --out my.index --batch-size 64

Run it again after adding pictures, or after an interruption: only what is new gets embedded."""
)
def index(
    pictures: Annotated[
        Path, typer.Argument(metavar="PICTURES", help="Folder of pictures; its subfolders are searched too.")
    ],
    out: Annotated[Path, typer.Option("--out", help="Folder for the index: made, or brought up to date.")],
    model: ModelOption = None,
    batch_size: Annotated[
        int, typer.Option(min=1, help="Pictures embedded at a time: few are fastest on a CPU, try 64 on a GPU.")
    ] = 8,
    device: DeviceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Embed a folder of pictures once, so that it can be searched from then on.

    Pictures that cannot be read are skipped and listed; nothing is written beside the pictures.
    """
    from .search import ImageIndex

    with _prints_only_json(as_json):
        built = ImageIndex.build(
            pictures, out, model=model, batch_size=batch_size, device=device, progress=not as_json
        )
    if as_json:
        _print_json(_index_summary(built, out))
    else:
        _show_report(built, out)
        print(f'Next: {_stmine()} search {out} "many planes near a terminal"')


@app.command(
    epilog="""[bold]Examples[/bold]

  stmine search my.index "many planes near a terminal"

  stmine search my.index pictures/harbour_12.jpg --k 20 --out similar

  stmine search my.index "a bridge over a wide river" --json"""
)
def search(
    index: Annotated[Path, typer.Argument(metavar="INDEX", help="Index folder made by `stmine index`.")],
    query: Annotated[str, typer.Argument(metavar="QUERY", help="A sentence, or the path of a picture.")],
    k: Annotated[int, typer.Option("--k", min=1, help="How many hits.")] = 10,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Folder for hits.png and hits.html. Default: outputs/search (with --json: none are written)."
        ),
    ] = None,
    model: Annotated[str | None, typer.Option("--model", help="Where the index's own model lies now.")] = None,
    device: DeviceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Rank the pictures of an index by how well they answer a sentence or resemble a picture.

    Scores are cosine similarities, between -1 and 1: they rank the pictures of one query and are no probabilities.
    """
    from .search import ImageIndex

    if out is None and not as_json:
        out = Path("outputs/search")
    _require_folder(out)
    with _prints_only_json(as_json):
        hits = ImageIndex.open(index, model=model, device=device).query(query, k=k)
        written = _write_hits(hits, out, "hits", title=query) if out else {}
    if as_json:
        _print_json({"query": query, "hits": [_hit_row(hit) for hit in hits], **written})
    else:
        _show_hits(hits, query)
        _show_files(written)
        if gone := sum(not hit.path.exists() for hit in hits):
            update = f"{_stmine()} index PICTURES --out {index}"
            print(f"{gone} of these pictures are gone. Bring the index up to date: {update}")


@evaluate_app.command(
    "fisvl",
    epilog="""[bold]Examples[/bold]

  stmine evaluate fisvl --dataset rsicd --data-dir data/rsicd --split val

  stmine evaluate fisvl --model my_model --dataset rsitmd --data-dir data/rsitmd --split test --out results""",
)
def evaluate_fisvl(
    dataset: Annotated[str, typer.Option(help="rsicd, rsitmd, ucm_captions, sydney_captions or toy_scenes.")],
    data_dir: Annotated[
        Path | None, typer.Option(help="Folder with the data set's files (toy_scenes needs none).")
    ] = None,
    split: Annotated[str, typer.Option(help="train, val or test.")] = "val",
    model: ModelOption = None,
    out: Annotated[Path | None, typer.Option(help="Folder for results.json and recall_curve.png.")] = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Pictures embedded at a time.")] = 64,
    limit: Annotated[int | None, typer.Option(min=1, help="Score the first N pictures only: a quick look.")] = None,
    device: DeviceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Recall at 1, 5 and 10 in both directions, and their mean (mR), as the FISVL paper reports them.

    Beside it stands the honest variant: a caption whose text equals one of the picture's own counts as right.
    """
    from . import load_dataset
    from .loading import load_fisvl
    from .training.evaluation_fisvl import evaluate_retrieval

    _require_folder(out)
    with _prints_only_json(as_json):
        rows = load_dataset(dataset, data_dir=data_dir, split=split)
        if limit is not None:
            rows = rows.select(range(min(limit, len(rows))))
        network, processor = load_fisvl(model, device=device)
        report = evaluate_retrieval(
            network, processor, rows, batch_size=batch_size, device=device, progress=not as_json
        )
        if out:
            report.save(out)
    if as_json:
        _print_json(report.to_dict())
    else:
        Console().print(report.table())
        if out:
            print(f"Written: {out / 'results.json'}, {out / 'recall_curve.png'}")


@convert_app.command(
    "fisvl",
    epilog="""[bold]Examples[/bold]

  stmine convert fisvl checkpoint_best.pth fisvl-rsicd --vocab bert-base-uncased/vocab.txt

  stmine search my.index "a stadium beside a road" --model fisvl-rsicd""",
)
def convert_fisvl(
    checkpoint: Annotated[Path, typer.Argument(metavar="CHECKPOINT", help="The authors' .pth file (768 tensors).")],
    out: Annotated[
        Path, typer.Argument(metavar="OUT", help="Folder to write: safetensors, config, processor and code.")
    ],
    vocab: Annotated[Path | None, typer.Option(help="vocab.txt of bert-base-uncased, for the tokenizer.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Turn an authors' FISVL checkpoint into a folder that `AutoModel` and `stmine` load.

    The file is read as plain tensors: code hidden in a checkpoint is refused, never run.
    """
    from .conversion.fisvl import convert_checkpoint

    with _prints_only_json(as_json):
        convert_checkpoint(checkpoint, out, vocab=vocab)
    if as_json:
        _print_json({"checkpoint": str(checkpoint), "out": str(out)})
    else:
        print(f"Written: {out}")
        print(f"Next: {_stmine()} index pictures --model {out} --out my.index")


@convert_app.command(
    "mttv",
    epilog="""[bold]Examples[/bold]

  stmine convert mttv model_best.pt mttv-weibo --vocab bert-base-chinese/vocab.txt

  stmine convert mttv model_best.pt mttv-weibo --vocab bert-base-chinese/vocab.txt --resnet resnet152-394f9c45.pth

  stmine convert mttv model_best.pt mttv-fakeddit --dataset fakeddit_2_way --labels true,fake --vocab vocab.txt""",
)
def convert_mttv(
    checkpoint: Annotated[Path, typer.Argument(metavar="CHECKPOINT", help="The authors' .pt file (113 tensors).")],
    out: Annotated[
        Path, typer.Argument(metavar="OUT", help="Folder to write: safetensors, config, processor, pipeline and code.")
    ],
    dataset: Annotated[
        str, typer.Option(help="What it was trained on: weibo, fakeddit_2_way, fakeddit_3_way or fakeddit_6_way.")
    ] = "weibo",
    arguments: Annotated[
        Path | None,
        typer.Option("--args", help="JSON with the authors' arguments, where they differ from the released ones."),
    ] = None,
    labels: Annotated[
        str | None,
        typer.Option(help="Labels in the order of their first appearance in the training file, by name or number."),
    ] = None,
    vocab: Annotated[Path | None, typer.Option(help="vocab.txt of the BERT, for the tokenizer.")] = None,
    resnet: Annotated[
        Path | None, typer.Option(help="torchvision's resnet152-*.pth; makes the model read pictures.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Turn an authors' MTTV checkpoint into a folder that the Auto classes load.

    The file is read as plain tensors: code hidden in a checkpoint (or in the authors' args.pt) is never run.
    """
    from .conversion.mttv import convert_checkpoint

    order = None
    if labels is not None:
        order = [int(label) if label.isdigit() else label for label in map(str.strip, labels.split(","))]
    with _prints_only_json(as_json):
        model = convert_checkpoint(
            checkpoint, out, arguments or dataset, label_order=order, vocab=vocab, resnet=resnet
        )
    names = [model.config.id2label[row] for row in range(model.config.num_labels)]
    if as_json:
        _print_json({"checkpoint": str(checkpoint), "out": str(out), "labels": names, "reads_pictures": bool(resnet)})
    else:
        print(f"Written: {out} (labels: {', '.join(names)}; takes {'pictures' if resnet else 'precomputed features'})")
        print(f'Next, in Python: pipeline("fake-news-detection", model="{out}", trust_remote_code=True)')


@convert_app.command(
    "sat",
    epilog="""[bold]Examples[/bold]

  stmine convert sat nanodet_m.ckpt nanodet-m-coco

  stmine convert sat nanodet_m.safetensors my-detector --labels ebike,person""",
)
def convert_sat(
    checkpoint: Annotated[
        Path,
        typer.Argument(metavar="CHECKPOINT", help="Official NanoDet-m (421 tensors): .safetensors, .pth or .ckpt."),
    ],
    out: Annotated[
        Path, typer.Argument(metavar="OUT", help="Folder to write: safetensors, config, image processor and code.")
    ],
    labels: Annotated[
        str | None, typer.Option(help="Names of the classes in the order of the outputs. Default for 80: COCO's.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Turn an official NanoDet-m, the parent of SAT, into a folder that the Auto classes load.

    The network of SAT itself was never published. The file is read as plain tensors: code in it is never run.
    """
    from .conversion.sat import convert_checkpoint

    names = None if labels is None else [name.strip() for name in labels.split(",")]
    with _prints_only_json(as_json):
        config = convert_checkpoint(checkpoint, out, labels=names)
    if as_json:
        _print_json({"checkpoint": str(checkpoint), "out": str(out), "labels": list(config.id2label.values())})
    else:
        print(f"Written: {out} ({config.num_labels} classes)")
        print(f'Next, in Python: pipeline("object-detection", model="{out}", trust_remote_code=True)')


@app.command(
    epilog="""[bold]Examples[/bold]

  stmine toy scenes --count 96

  stmine toy scenes --count 2000 --seed 7   # then: --dataset rsicd --data-dir scenes"""
)
def toy(
    out: Annotated[Path, typer.Argument(metavar="OUT", help="Folder to write: images/ and dataset.json.")],
    count: Annotated[int, typer.Option(min=3, help="How many pictures.")] = DEMO_PICTURES,
    seed: Annotated[int, typer.Option(help="The same seed draws the same pictures.")] = 0,
    as_json: JsonOption = False,
) -> None:
    """Draw toy overhead scenes with captions: a picture folder to try everything on, free of any licence.

    dataset.json has the layout of RSICD, so the folder also serves wherever a real data set would.
    """
    from .data.toy_scenes import write_scenes

    _require_folder(out)
    with _prints_only_json(as_json):
        write_scenes(out, count=count, seed=seed)
    if as_json:
        _print_json({"out": str(out), "count": count, "seed": seed})
    else:
        print(f"Written: {count} pictures in {out / 'images'}, their captions in {out / 'dataset.json'}")
        print(f"Next: {_stmine()} index {out} --out {out}.index")


@app.command(
    epilog="""[bold]Examples[/bold]

  stmine demo

  stmine demo --pictures my_pictures --query "many planes" --query "a bridge over a river" """
)
def demo(
    pictures: Annotated[
        Path | None, typer.Option(help="Folder of your own pictures. Default: freshly drawn toy scenes.")
    ] = None,
    query: Annotated[
        list[str] | None, typer.Option(help="A sentence or a picture to search for; may be given several times.")
    ] = None,
    model: ModelOption = None,
    out: Annotated[Path, typer.Option(help="Folder for everything the demo writes.")] = Path("outputs/demo"),
    k: Annotated[int, typer.Option("--k", min=1, help="How many hits for each search.")] = 8,
    device: DeviceOption = None,
) -> None:
    """The main job from end to end: draw or take pictures, index them, search them, show the hits."""
    from .data.toy_scenes import write_scenes
    from .search import ImageIndex

    _require_folder(out)
    _hush_libraries()
    if pictures is None:
        pictures, index_folder = out / "scenes", out / "scenes.index"
        write_scenes(pictures, count=DEMO_PICTURES, seed=0)
        shutil.rmtree(index_folder, ignore_errors=True)  # of an earlier demo, maybe with another model
        print(f"Drew {DEMO_PICTURES} toy scenes: {pictures}")
    else:  # kept from demo to demo: a large folder is embedded once for each model
        digest = blake2b(f"{pictures.absolute()} {model}".encode(), digest_size=4).hexdigest()
        index_folder = out / f"{pictures.absolute().name}-{digest}.index"
    built = ImageIndex.build(pictures, index_folder, model=model, device=device)
    _show_report(built, index_folder)
    sheets = []
    for number, text in enumerate(query or DEMO_QUERIES, start=1):
        hits = built.query(text, k=k)
        _show_hits(hits, text)
        sheets.append(_write_hits(hits, out, f"{number}-{_slug(text)}", title=text))
    print("Look at:")
    for written in sheets:
        print(f"  {written['contact_sheet']}   {written['html_page']}")
    print(f'Search on: {_stmine()} search {index_folder} "your own sentence"')


@app.command("version")
def show_version(as_json: JsonOption = False) -> None:
    """Print the versions that a bug report needs."""
    versions = {"python": sys.version.split()[0]}
    for package in ("stmine-hf", "torch", "transformers", "datasets", "faiss-cpu"):
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            versions[package] = "not installed"
    if as_json:
        _print_json(versions)
    else:
        for package, number in versions.items():
            print(f"{package} {number}")


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point of `stmine`; `--debug` is honoured wherever it stands, so a failed line needs it only appended."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in words
    try:
        app([word for word in words if word != "--debug"], prog_name="stmine")
    except Exception as error:  # wrong usage has already become SystemExit(2)
        if debug:
            raise
        message = " ".join(str(error).split())
        if not isinstance(error, (StmineError, OSError)):
            message = f"{type(error).__name__}: {message} (--debug shows where)"
        Console(stderr=True, soft_wrap=True).print(f"error: {message}", style="red", markup=False, highlight=False)
        raise SystemExit(1) from None


@contextmanager
def _prints_only_json(as_json: bool) -> Iterator[None]:
    """While a library works: quiet loggers, and for `--json` a standard output that stays free for the document."""
    _hush_libraries()
    if not as_json:
        yield
        return
    with redirect_stdout(sys.stderr):
        yield


def _require_folder(out: Path | None) -> None:
    """Before the work, whose results would else be lost.

    Raises:
        StmineError: `out` is a file.
    """
    if out and out.exists() and not out.is_dir():
        raise StmineError(f"{out}: expected a folder to write to, found a file.")


def _hush_libraries() -> None:
    """Keep loading bars and notes of transformers off the terminal: what matters to the user, we print."""
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()


def _print_json(document: dict[str, Any]) -> None:
    print(json.dumps(document, indent=2, ensure_ascii=False))


def _slug(text: str) -> str:
    """A short file name that still tells what was searched for; scripts without ASCII letters have none to give."""
    words = re.sub(r"[^a-z0-9]+", " ", text.lower())
    return shorten(words, width=40, placeholder="").replace(" ", "-") or "query"


def _hit_row(hit: Hit) -> dict[str, Any]:
    return {"rank": hit.rank, "score": float(hit.score), "path": str(hit.path)}


def _write_hits(hits: list[Hit], folder: Path, stem: str, *, title: str) -> dict[str, str]:
    from .search.present import contact_sheet, html_page

    folder.mkdir(parents=True, exist_ok=True)
    sheet, page = folder / f"{stem}.png", folder / f"{stem}.html"
    contact_sheet(hits, sheet, title=title)
    html_page(hits, page, title=title)
    return {"contact_sheet": str(sheet), "html_page": str(page)}


def _show_hits(hits: list[Hit], query: str) -> None:
    print(f"{query}\nrank   score  picture")
    for hit in hits:
        print(f"{hit.rank:>4}  {hit.score:>6.3f}  {_from_here(hit.path)}")


def _stmine() -> str:
    """How to call this command from here: by its path while its environment is not the active one."""
    return "stmine" if shutil.which("stmine") else str(_from_here(Path(sys.executable).parent / "stmine"))


def _from_here(path: Path) -> Path:
    """Shorter to read, and just as good to copy into the next command."""
    here = Path.cwd()
    return path.relative_to(here) if path.is_relative_to(here) else path


def _show_files(written: dict[str, str]) -> None:
    print(f"Look at: {written['contact_sheet']}   {written['html_page']}")


def _index_summary(built: ImageIndex, out: Path) -> dict[str, Any]:
    report = _report(built)
    skipped = [skip._asdict() for skip in report.skipped]
    return {"index": str(out), "pictures": len(built), **asdict(report), "skipped": skipped}


def _show_report(built: ImageIndex, out: Path, *, most_skipped: int = 10) -> None:
    report = _report(built)
    print(
        f"Index {out}: {len(built)} pictures ({report.added} added, {report.changed} changed, "
        f"{report.unchanged} unchanged, {report.removed} removed, {len(report.skipped)} skipped)"
    )
    memory = f", peak memory {report.peak_memory_mb:.0f} MB" if report.peak_memory_mb else ""
    print(f"{report.embedded} embedded in {report.seconds:.1f} s, {report.pictures_per_second:.1f} a second{memory}")
    for path, reason in report.skipped[:most_skipped]:
        print(f"  skipped {path}: {reason}")
    if len(report.skipped) > most_skipped:
        print(f"  ... and {len(report.skipped) - most_skipped} more (--json lists all)")


def _report(built: ImageIndex) -> BuildReport:
    assert built.report is not None  # `build` sets it
    return built.report


if __name__ == "__main__":
    main()
