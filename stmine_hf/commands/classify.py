"""`stmine classify`: a post, or a file of them, classified by MTTV."""

from __future__ import annotations

import re
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import StmineError
from ..inference.engines import require_engine
from ..methods import MTTV
from ..outputs import require_apart, require_output, require_own_place
from ..printing import printable, say, shell_word
from .methods.mttv import ModelOption
from .terminal import (
    POSTS,
    BandsOption,
    ColumnOption,
    DetectorOption,
    DeviceOption,
    EncodingOption,
    EngineOption,
    FindingsOption,
    JsonOption,
    LabelOption,
    RayOption,
    ServerOption,
    StretchOption,
    StrictOption,
    column_mapping,
    device_of,
    from_here,
    label_names,
    print_json,
    prints_only_json,
    reading_options,
    require_default,
    require_file,
    warn,
)

if TYPE_CHECKING:
    from ..images import PixelOptions
    from ..posts.classify import Agreement, ClassifyReport

PAGES = (".html", ".png")
MOST_WORDS = 10  # of an explanation, on the screen; the drawing has all

app = typer.Typer()


class ExplainMethod(str, Enum):
    """Methods of explaining, as the pipeline names them; the first is the default everywhere."""

    occlusion = "occlusion"
    integrated_gradients = "integrated_gradients"


@app.command(
    epilog="""[bold]Examples[/bold]

  stmine classify --text "紧急通知！今晚有流星雨坠落，请大家马上转发！" --image photo.jpg

  stmine classify --text "紧急通知！今晚有流星雨坠落，请大家马上转发！" --explain why.html

  stmine classify --text "紧急通知！今晚有流星雨坠落，请大家马上转发！" --server http://127.0.0.1:8000

  stmine classify --file posts.jsonl --out predictions.jsonl

  stmine classify --file posts.csv --column text=content --out predictions.csv --explain 17

A file has one post per line, {"id": ..., "text": ..., "image": ...}, or is a table. Columns are found by their names.

The output has your columns, and the predictions beside them. Where yours hold labels, their agreement is printed.

The shipped model knows Chinese posts only. Paths of images are relative to the file.

Run it again after an interruption or a change: it resumes.""",
)
def classify(
    context: typer.Context,
    text: Annotated[str | None, typer.Option(help="Text of the post.")] = None,
    image: Annotated[
        list[Path] | None, typer.Option(help="Image of the post; may be given several times, the main one first.")
    ] = None,
    file: Annotated[
        Path | None, typer.Option(help="Many posts: JSON lines, JSON, CSV, TSV, Excel or Parquet.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="With --file: file for the predictions: .jsonl, .json, .csv, .tsv or .parquet."),
    ] = None,
    without_bad_images: Annotated[
        bool,
        typer.Option(
            "--without-bad-images", help="With --file: classify a post by its text if its image cannot be read."
        ),
    ] = False,
    encoding: EncodingOption = None,
    findings: FindingsOption = None,
    strict: StrictOption = False,
    column: ColumnOption = None,
    label: LabelOption = None,
    explain: Annotated[
        str | None,
        typer.Option(
            metavar="PAGE|ROW",
            help="Write what drove the prediction: to this page (.html) or as an overlay on the image (.png). With "
            "--file: of the row with this id or line, to the page --out, or beside the predictions.",
        ),
    ] = None,
    explain_method: Annotated[
        ExplainMethod, typer.Option(help="How --explain finds it: by removing each part, or by integrated gradients.")
    ] = ExplainMethod.occlusion,
    model: ModelOption = None,
    detector: DetectorOption = None,
    batch_size: Annotated[
        int,
        typer.Option(
            min=1,
            help="With --file: posts per batch. Small batches are fastest on a CPU; try 64 on a GPU.",
        ),
    ] = 8,
    stretch: StretchOption = None,
    bands: BandsOption = None,
    device: DeviceOption = None,
    engine: EngineOption = "auto",
    ray: RayOption = None,
    server: ServerOption = None,
    as_json: JsonOption = False,
) -> None:
    """Estimate whether a post is fake, from its text, its image, or both.

    It is an estimate from the posts seen in training, not proof, and no person should be judged by it.
    """
    _check_usage(text, image, file, out, explain)
    if ray is not None and file is None:
        raise typer.BadParameter("--ray is for many posts: expected --file")
    mapping, meant = column_mapping(column), label_names(label)
    if meant and file is None:
        raise typer.BadParameter("--label is for the labels of a file: expected --file")
    page = None if explain is None else Path(explain) if file is None else _page_of(explain, out)
    if page is not None:
        require_output(page, inputs=[file] if file else image or [])
    predictions = None if out == page else out
    if server is not None:
        names = (
            "file",
            "out",
            "explain_method",
            "model",
            "detector",
            "batch_size",
            "stretch",
            "bands",
            "device",
            "engine",
            "ray",
        )
        require_default(context, *names, why="the service classifies one post, with the model that it has")
        for path in image or []:
            require_file(path, "an image")
        answer = _classify_by_server(server, text or "", image or [], explain)
        if as_json:
            print_json(answer)
        else:
            _show_prediction(answer)
        return
    from ..images import PixelOptions
    from ..loading import labels_of, load_mttv, require_model, require_regions, whole_model_here
    from ..posts.reading import check_posts, find_row, post_columns, require_post
    from ..posts.results import JSON_LINES, format_of, require_continued, require_labels, written_files

    pixels = PixelOptions.parse(stretch, bands)
    for path in image or []:
        require_file(path, "an image")
    require_file(file, POSTS)
    require_model(model, method=MTTV)
    require_regions(detector, model)
    require_engine(engine)
    if (labels := labels_of(model, MTTV)) is not None:
        require_labels(meant, list(labels.values()))
    written = [] if predictions is None else written_files(predictions)
    if predictions is not None and file is not None:
        if format_of(predictions) == JSON_LINES:  # which version 0.1 wrote without a list of its files
            require_apart(predictions, [file])
        else:
            require_output(predictions, inputs=[file])
        if (folder := whole_model_here(model, MTTV)) is not None:
            require_continued(predictions, folder)
    with prints_only_json(as_json):
        opened: list[Any] = []
        if file is not None:
            if findings is not None and written:
                require_own_place("--findings", findings, written)
            check_posts(file, **reading_options(encoding, findings, strict), columns=mapping)
            require_post(file, encoding, mapping)
        else:
            opened = _opened(image or [], pixels)
            if not opened and not (text or "").strip():
                raise StmineError("Nothing to classify: the text is empty, and there is no image.")
        post = None
        if file is not None and explain is not None:
            post = find_row(file, explain, encoding, mapping, pixels)
        if file is not None:
            say(f"Columns: {post_columns(file, encoding, mapping).line}")
        from ..posts.detectors import load_detector

        network, processor = load_mttv(model, device=device_of(context, device, ray))
        regions = None if detector is None else load_detector(detector, network.device, model=network)
        report = None
        if file is not None and predictions is not None:
            from ..posts.classify import classify_file

            report = classify_file(
                network, processor, file, predictions, batch_size=batch_size, detector=regions,
                without_bad_images=without_bad_images, encoding=encoding, columns=mapping, label_names=meant,
                pixels=pixels, progress=not as_json, engine=engine, ray=ray,
            )  # fmt: skip
        found = None
        if post is not None and page is not None:
            named = "" if post.id == f"line {post.line}" else f"Row {post.id}, "
            row = f"{named}{'line' if named else 'Line'} {post.line} of {file.name if file else ''}"
            found = _explain_row(network, processor, regions, post.post, row, page, explain_method.value)
        elif file is None:
            found = _classify_one(
                network, processor, regions, text or "", opened, image or [], explain, explain_method.value
            )
    if as_json:
        facts = {} if report is None or predictions is None else _facts(report, predictions)
        print_json({**facts, "explained": found} if facts and found else facts or found or {})
        return
    if report is not None and predictions is not None:
        _show_report(report, predictions)
    if found is not None:
        _show_prediction(found)


def _classify_by_server(server: str, text: str, paths: list[Path], explain: str | None) -> dict[str, Any]:
    """The answer of a service; with an explanation its drawing is written here."""
    from ..serve.client import Client

    found = Client(server).classify(text, [path.read_bytes() for path in paths], explain=explain is not None)
    if explain is None:
        return found
    from ..posts.reading import post_image, whole_text
    from ..posts.reasons import ExplainedPost

    explained = ExplainedPost(whole_text(text), [post_image(path) for path in paths], found, paths)
    return {**found, "explanation": str(explained.save(explain))}


def _check_usage(
    text: str | None, image: list[Path] | None, file: Path | None, out: Path | None, explain: str | None
) -> None:
    """
    Raises:
        typer.BadParameter: options that do not go together.
    """
    if file is None and text is None and not image:
        raise typer.BadParameter("expected --text, --image or both, or --file with --out")
    if file is not None:
        if text is not None or image:
            raise typer.BadParameter("--file takes no --text or --image: these are for one post")
        if out is None and explain is None:
            raise typer.BadParameter("--file and --out go together: the posts, and where to write their predictions")
        if explain is not None and Path(explain).suffix.lower() in PAGES:
            raise typer.BadParameter(f"with --file, --explain takes an id or line of the file, found {explain!r}")
        return
    if out is not None:
        raise typer.BadParameter("--file and --out go together: the posts, and where to write their predictions")
    if explain is not None and Path(explain).suffix.lower() not in PAGES:
        raise typer.BadParameter(f"--explain writes .html or .png, found {Path(explain).name!r}")
    if explain is not None and Path(explain).suffix.lower() == ".png" and not image:
        raise typer.BadParameter(
            "--explain with .png draws on the image, and there is none: name a file that ends in .html"
        )


def _page_of(row: str, out: Path | None) -> Path:
    """Where the reasons of a row go: `out` if it is a page, else beside the predictions, or below outputs/."""
    if out is not None and out.suffix.lower() in PAGES:
        return out
    name = f"explain-{re.sub(r'[^0-9A-Za-z_-]+', '_', row)[:80]}.html"
    return Path("outputs/classify", name) if out is None else out.with_name(f"{out.stem}.{name}")


def _explain_row(
    network: Any, processor: Any, detector: Any, post: Any, row: str, page: Path, method: str
) -> dict[str, Any]:
    """Classify the post of a row and write its reasons."""
    from ..images import ImageError
    from ..posts.reasons import classified

    images = []
    for image in post.images:
        try:
            images.append(image())
        except ImageError as error:
            raise StmineError(f"row {post.id}: {error}") from None
    files = [image.path for image in post.images if image.path is not None]
    explained = classified(
        network, processor, post.text, images, detector=detector, method=method, files=files, row=row
    )  # fmt: skip
    return {"id": post.id, **explained.found, "explanation": str(explained.save(page))}


def _opened(paths: list[Path], pixels: PixelOptions) -> list[Any]:
    """The images of a post.

    Raises:
        StmineError: one cannot be read.
    """
    from ..images import ImageError
    from ..posts.reading import post_image

    images = []
    for path in paths:
        try:
            images.append(post_image(path, pixels))
        except ImageError as error:
            raise StmineError(f"{path}: {error}") from None
    return images


def _classify_one(
    network: Any,
    processor: Any,
    detector: Any,
    text: str,
    images: list[Any],
    paths: list[Path],
    explain: str | None,
    method: str,
) -> dict[str, Any]:
    """The pipeline's answer; with an explanation its drawing is written, too."""
    from ..posts.reading import whole_text
    from ..posts.reasons import classified

    wanted = None if explain is None else method
    explained = classified(
        network, processor, whole_text(text), images, detector=detector, method=wanted, files=paths
    )  # fmt: skip
    if explain is None:
        return explained.found
    return {**explained.found, "explanation": str(explained.save(explain))}


def _show_prediction(found: dict[str, Any]) -> None:
    others = ", ".join(f"{label} {score:.1%}" for label, score in found["scores"].items() if label != found["label"])
    say(f"{found['label']} {found['score']:.1%} ({others})")
    if "warning" in found:
        warn(found["warning"])
    if found["unread_characters"]:
        say(f"The model reads the beginning only: the last {found['unread_characters']} characters do not count.")
    if "words" not in found:
        return
    if found["method"] == "occlusion":
        how = "change in log-odds when removed"
    else:
        how = f"log-odds by {found['method'].replace('_', ' ')}"
    say(f"What drove the prediction ({how}; above 0: for {found['label']}, below: against it):")
    shown = [word for word in found["words"] if word["word"].strip()]
    for word in sorted(shown, key=lambda word: -abs(word["weight"]))[:MOST_WORDS]:
        say(f"{word['weight']:>+8.3f}  {word['word']}")
    sums = {"words": sum(word["weight"] for word in found["words"])}
    if found["cells"]:
        sums["parts of the image"] = sum(map(sum, found["cells"]))
    if found["regions"]:
        sums["regions"] = sum(region["weight"] for region in found["regions"])
    said = ", ".join(f"{name} {weight:+.3f}" for name, weight in sums.items())
    say(f"Sums of these numbers over all words{' and parts of the image' if found['cells'] else ''}: {said}")
    say("A model's estimate, not proof.")
    say(f"Results: {from_here(Path(found['explanation']))}")


def _facts(report: ClassifyReport, out: Path) -> dict[str, Any]:
    _warn_of(report)
    return {
        "out": str(out),
        "model": report.model,
        "judged": report.predicted,  # this key and `verdicts` are those of version 0.1, which scripts may read
        "done_before": report.done_before,
        "outdated": report.outdated,
        "removed": report.removed,
        "images_left_out": report.images_left_out,
        "renamed": report.renamed,
        "warned": report.warned,
        "skipped": report.skipped,
        "skipped_file": report.skipped_file and str(report.skipped_file),
        "first_skipped": [row._asdict() for row in report.first_skipped],
        "verdicts": dict(report.labels),
        "agreement": report.agreement and report.agreement.to_dict(),
        "renamed_columns": report.renamed_columns,
        "engines": report.engines,
        "engine": report.engine,
        "seconds": round(report.seconds, 2),
    }


def _warn_of(report: ClassifyReport) -> None:
    if report.warned:
        column = report.renamed_columns.get("warning", "warning")
        warn(f"{report.warned} posts differ from the training data: see the `{column}` column")


def _show_report(report: ClassifyReport, out: Path) -> None:
    _warn_of(report)
    speed = f", {report.predicted / report.seconds:.1f} posts a second" if report.predicted else ""
    say(f"{report.predicted} posts classified ({report.done_before} already done, {report.skipped} skipped){speed}")
    if report.outdated:
        say(f"{report.outdated} of them again: predictions of version 0.1 do not say which text they belong to")
    if report.removed:
        say(f"{report.removed} predictions are of posts that are no longer in the file: they are not in the results")
    if report.renamed:
        say(f"{report.renamed} ids occur more than once: the column line tells their rows apart")
    if report.renamed_columns:
        taken = ", ".join(f"{ours} is {name}" for ours, name in report.renamed_columns.items())
        say(f"Your columns stay as they are. Where yours has the name of one of ours, ours has another: {taken}")
    if report.columns_left_out:
        say(f"{report.columns_left_out} or more of your columns are left out: a table takes the first 1,000")
    if report.images_left_out:
        column = report.renamed_columns.get("problem", "problem")
        say(f"{report.images_left_out} of them without an image that cannot be read: see the `{column}` column")
    for line, name, reason in report.first_skipped:
        named = "" if name == f"line {line}" else f" ({printable(name)})"
        say(f"  skipped line {line}{named}: {reason}")
    if report.skipped > len(report.first_skipped):
        say(f"  ... and {report.skipped - len(report.first_skipped)} more")
    if report.skipped_file is not None:
        say(f"All that were skipped: {from_here(report.skipped_file)}")
    if report.engine:
        say(f"Engine: {report.engine}")
    say("Predictions: " + ", ".join(f"{count} {label}" for label, count in report.labels.most_common()))
    if report.agreement is not None:
        _show_agreement(report.agreement)
    say(f"Written: {from_here(out)}")


def _show_agreement(found: Agreement) -> None:
    """How far predictions agree with the labels of the file, and which words are no labels of the model."""
    if found.compared:
        say(
            f"Compared with the column {printable(found.column)} ({found.compared} posts): accuracy "
            f"{found.accuracy:.4f}, macro F1 {found.macro_f1:.4f}"
        )
        for label, row in zip(found.labels, found.confusion.tolist(), strict=True):
            said = ", ".join(f"{count} as {other}" for other, count in zip(found.labels, row, strict=True))
            say(f"  {sum(row)} {label}: {said}")
    if found.unknown:
        words = ", ".join(f"{printable(word)} ({count} x)" for word, count in list(found.unknown.items())[:6])
        others = len(found.unknown) + found.more_unknown - 6
        more = f" and {others} more" if others > 0 else ""
        first = printable(shell_word(next(iter(found.unknown))))
        labels = " or ".join(found.labels)
        say(
            f"Not compared: in the column {printable(found.column)}, {words}{more} are not the model's labels, "
            f"{labels}. If they mean these, say so: --label {first}=LABEL"
        )
    if found.without and (found.compared or found.unknown):
        say(f"{found.without} posts have no label in the column {printable(found.column)}")
