"""`stmine toy`: draw data for every method, to try everything on."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import typer

from ..errors import StmineError
from ..outputs import Outputs
from ..printing import say
from .terminal import JsonOption, from_here, print_json, prints_only_json, require_folder, stmine_command

TOY_SETS = ("scenes", "posts", "camouflage", "mosaic")

app = typer.Typer()


@app.command(
    epilog="""[bold]Examples[/bold]

  stmine toy scenes --count 96

  stmine toy posts --kind posts --count 96

  stmine toy hidden --kind camouflage --count 96 --difficulty 0.8

  stmine toy scenes --count 2000 --seed 7   # then: --dataset rsicd --data-dir scenes"""
)
def toy(
    out: Annotated[Path, typer.Argument(metavar="OUT", help="Folder to write.")],
    kind: Annotated[
        str,
        typer.Option(
            help="scenes: overhead scenes with captions (FISVL); posts: texts that fit their image or do not "
            "(MTTV); camouflage: animals on grounds of their own texture, with boxes (SAT); mosaic: one large scene "
            "with a place on Earth (GeoTIFF)."
        ),
    ] = "scenes",
    count: Annotated[int, typer.Option(min=3, help="Number of images.")] = 96,
    seed: Annotated[int, typer.Option(help="The same seed draws the same images.")] = 0,
    difficulty: Annotated[
        float,
        typer.Option(min=0, max=1, help="Difficulty of camouflage, from 0 (easy to see) to 1 (almost invisible)."),
    ] = 0.5,
    as_json: JsonOption = False,
) -> None:
    """Draw toy data in the layouts of real sets, to try everything on.

    Scenes have the layout of RSICD (dataset.json), posts that of your own posts (posts.jsonl), camouflage that of
    COCO (annotations/instances_*.json).
    """
    if kind not in TOY_SETS:
        raise typer.BadParameter(f"expected one of {', '.join(TOY_SETS)}, found {kind!r}", param_hint="--kind")
    require_folder(out)
    with prints_only_json(as_json):
        if kind == "scenes":
            from ..data.toy.toy_scenes import write_scenes

            _write(out, lambda folder: write_scenes(folder, count=count, seed=seed))
            next_words = f"index {out} --out {out}.index"
        elif kind == "posts":
            if count % 4:
                raise StmineError(f"--count: posts come in fours (two texts, two images, all pairs), found {count}.")
            from ..data.toy.toy_posts import write_posts

            _write(out, lambda folder: write_posts(folder, count=count, seed=seed))
            next_words = f"classify --file {out / 'posts.jsonl'} --out {out / 'predictions.jsonl'}"
        elif kind == "mosaic":
            from ..data.toy.toy_mosaic import write_mosaic

            _write(out, lambda folder: write_mosaic(folder, count=count, seed=seed))
            next_words = f"index {out} --tile 256 --out {out}.index"
        else:
            from ..data.toy.toy_camouflage import write_camouflage
            from ..loading import published

            _write(out, lambda folder: write_camouflage(folder, count=count, seed=seed, difficulty=difficulty))
            model = from_here(Path(published("sat-indiscernible")))
            next_words = f"detect {out / 'images'} --model {model} --threshold 0.3 --out {out / 'found'}"
    if as_json:
        print_json({"out": str(out), "kind": kind, "count": count, "seed": seed})
    else:
        what = f"one image of {count} scenes" if kind == "mosaic" else f"{count} images and their annotations"
        say(f"Written: {what} in {out}")
        say(f"Next: {stmine_command()} {next_words}")


def _write(out: Path, draw: Callable[[Path], Any]) -> None:
    """Draw into a temporary folder, then move the files into place: existing files are not replaced."""
    out.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix=".stmine-toy-", dir=out.parent) as drawn:
        draw(Path(drawn))
        names = sorted(path.relative_to(drawn).as_posix() for path in Path(drawn).rglob("*") if path.is_file())
        with Outputs(out) as outputs:
            outputs.require_free(*names)
            for name in names:
                (out / name).parent.mkdir(parents=True, exist_ok=True)
                outputs.write(name, partial(shutil.copyfile, Path(drawn) / name))
