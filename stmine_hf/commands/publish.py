"""`stmine publish ...`: build, check, compare and upload repositories of the Hub."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import StmineError, require_own_id
from ..methods import METHODS
from ..printing import print_table, say
from .terminal import JsonOption, from_here, print_json, prints_only_json, say_next, stmine_command, warn

if TYPE_CHECKING:
    from ..hub.check import CheckReport
    from ..hub.push import PushPlan

app = typer.Typer(no_args_is_help=True, help="Build, check, compare and upload repositories for the Hugging Face Hub.")


@app.command(
    "build",
    epilog="""[bold]Examples[/bold]

  stmine publish build outputs/my-run --out my-detector --data-dir data/coco --license cc-by-4.0 --repo me/my-detector

  stmine publish build fisvl-rsicd --out fisvl-rsicd-hub

  stmine publish build sat-coco-small --out hub_cards/sat-coco-small

  stmine publish build fisvl --out fisvl-official

  stmine publish build rsicd --out rsicd-card

  stmine publish build hub_cards/space --out my-space

The third updates code and card of a repository and keeps its weights and figures.

The fourth makes a repository without weights, for those of the authors. The fifth writes the card of a data set.""",
)
def build_repository(
    source: Annotated[
        str,
        typer.Argument(
            metavar="REPO",
            help="A training run; a model folder; a repository built before (its folder, or a name in hub_cards/); "
            f"one of {', '.join(METHODS)}, for the released network without weights; the name of a data set, for its "
            "card; or the folder of a Space.",
        ),
    ],
    out: Annotated[Path, typer.Option("--out", help="Folder to write, or a clone of the repository.")],
    data_dir: Annotated[
        Path | None, typer.Option(help="Folder of the data set of a training run, to measure the model on.")
    ] = None,
    compare: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=PATH",
            help="Results to compare a run with. SAT: parent, benchmark. MTTV: baselines, released.",
        ),
    ] = None,
    license: Annotated[
        str | None,
        typer.Option(help="License of the weights, as a Hub identifier. Default: that of the present card."),
    ] = None,
    repo: Annotated[
        str | None,
        typer.Option(
            help="Id on the Hub for the card: your name there and the model's, such as jane-doe/my-detector. "
            "Default: as before, else the folder's name."
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Assemble the folder of a Hub repository: weights, code, card, scores, license, list of files with hashes."""
    _require_source(source)
    require_own_id(repo)
    from ..cards.files import files_in
    from ..hub.build import build

    with prints_only_json(as_json):
        tables = build(
            source,
            out,
            data_dir=data_dir,
            compare=_pairs(compare),
            license=license,
            repo=repo,
            progress=not as_json,
        )
    files = {name: (out / name).stat().st_size for name in files_in(out)}
    if as_json:
        print_json({"out": str(out), "files": files})
        return
    for table in tables:
        print_table(table)
    say(f"Written: {from_here(out.absolute())} ({len(files)} files, {sum(files.values()):,} bytes)")
    say_next(["publish", "check", str(from_here(out.absolute()))], after="Read its README.md. Next:")


def _require_source(source: str) -> None:
    """
    Raises:
        StmineError: neither a folder nor a known name.
    """
    from ..data import BUILDERS
    from ..loading import shipped_names

    if not Path(source).is_dir() and source not in {*METHODS, *BUILDERS, *shipped_names()}:
        raise StmineError(
            f"{source}: no such folder. Expected a training run, a folder with a model, or a folder built before."
        )


def _pairs(given: list[str] | None) -> dict[str, str]:
    pairs = {}
    for pair in given or []:
        name, sign, path = pair.partition("=")
        if not name or not sign or not path:
            raise typer.BadParameter(f"--compare: expected NAME=PATH, found {pair!r}")
        pairs[name] = path
    return pairs


@app.command(
    "check",
    epilog="""[bold]Examples[/bold]

  stmine publish check hub_cards/sat-coco-small

  stmine publish check my-detector --json""",
)
def check_repository(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder of the repository.")],
    as_json: JsonOption = False,
) -> None:
    """Check whether a folder can be published; exit code 1 if not.

    Compares the files with manifest.json; checks that no file runs code when it is loaded, what the code imports and
    calls, and the header and links of the card. If all of this passes, a process without this package loads the model
    in a sandbox (no connection, no programs, no files written, bounded memory and time); its outputs must match those
    of the library.
    """
    from ..hub.check import check

    with prints_only_json(as_json):
        report = check(folder)
    _show(report, as_json)
    if not report.passed:
        raise typer.Exit(1)
    if not as_json:
        _say_how_to_push(folder, report.repo_type)


@app.command(
    "diff",
    epilog="""[bold]Examples[/bold]

  stmine publish diff stmine-hf/sat-coco-small --revision v1

  stmine publish diff hub_cards/sat-coco-small""",
)
def compare_code(
    repository: Annotated[
        str, typer.Argument(metavar="REPO", help="Folder, name in hub_cards/, or id on the Hub, as organisation/name.")
    ],
    revision: Annotated[str, typer.Option(help="Branch, tag or commit on the Hub.")] = "main",
    as_json: JsonOption = False,
) -> None:
    """Show where a published model's code differs from the present code; exit code 1 if it does.

    To update it: `stmine publish build`, then `stmine publish push`.
    """
    from ..hub.diff import diff

    with prints_only_json(as_json):
        found = diff(repository, revision=revision)
    if as_json:
        print_json(found.to_dict())
    else:
        for file in found.different:
            say("\n".join(file.lines) + "\n")
        for file in found.different:
            say(f"{file.state}: {file.path}")
        say(f"{len(found.same)} of {len(found.same) + len(found.different)} code files of {found.where} are today's.")
    if found.different:
        raise typer.Exit(1)


@app.command(
    "push",
    epilog="""[bold]Examples[/bold]

  stmine publish push my-detector --repo my-name/my-detector --private

  stmine publish push my-detector --repo my-name/my-detector --tag v1 --dry-run""",
)
def push_repository(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder of the repository.")],
    repo: Annotated[str, typer.Option(help="Id on the Hub: ORGANISATION/NAME.")],
    private: Annotated[bool, typer.Option("--private", help="Make a new repository private.")] = False,
    revision: Annotated[str, typer.Option(help="Branch.")] = "main",
    tag: Annotated[str | None, typer.Option(help="Tag for the commit, to load this version by.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only list what would be sent.")] = False,
    no_check: Annotated[bool, typer.Option("--no-check", help="Skip `stmine publish check`.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Upload a folder to the Hub in one commit: a model, a data set or a Space, as its card says.

    Run it again after an interruption: large files that arrived are not sent twice. Files that are only on the Hub
    stay, unless an earlier build's manifest.json lists them.
    """
    from dataclasses import asdict

    require_own_id(repo)
    from ..cards.model import named_id
    from ..hub.check import check
    from ..hub.push import plan, push
    from ..hub.repo_type import repo_type_of

    repo_type = repo_type_of(folder)
    if not no_check:
        with prints_only_json(as_json):
            report = check(folder)
        if not report.passed:
            _show(report, as_json)
            raise StmineError(f"{folder}: not fit to be published. Correct what failed, or add --no-check.")
    if dry_run:
        planned, document = plan(folder, repo, repo_type, revision=revision, offline=True), {}
    else:
        with prints_only_json(as_json):
            pushed = push(folder, repo, repo_type, private=private, revision=revision, tag=tag)
        planned, document = pushed.plan, {"commit": pushed.commit, "url": pushed.url, "tag": pushed.tag}
    if repo_type == "model" and _loads(folder) and (named := named_id(folder)) != repo:
        warn(
            f"the code on the card loads {named or folder.absolute().name}, not {repo}. Build the folder again with "
            f"--repo {repo} to have it name the repository."
        )
    if as_json:
        print_json({**asdict(planned), **document})
        return
    _print_plan(planned)
    if dry_run and not planned.reached:
        say("Nothing was sent. The Hub was not asked which of these files it has: no connection, or HF_HUB_OFFLINE.")
    elif dry_run:
        say("Nothing was sent." if planned.changes else "Nothing would be sent: the Hub has it all.")
    else:
        say(f"Sent: {pushed.url}" if planned.changes else f"Nothing new, no commit made: {pushed.url}")
        tagged = f", revision={tag!r}" if tag else f", revision={pushed.commit!r}"
        say(f"Loads as: {repo!r}{tagged}")


def _show(report: CheckReport, as_json: bool) -> None:
    if as_json:
        print_json(report.to_dict())
        return
    print_table(report.table())
    failed = [finding.check for finding in report.findings if finding.outcome == "failed"]
    unread = any(finding.check == "own code" for finding in report.findings)
    fit = "Fit to be published once you have read its own code." if unread else "Fit to be published."
    say(f"Failed: {', '.join(failed)}." if failed else f"{fit} Checked in {report.seconds:.0f} s.")


def _loads(folder: Path) -> bool:
    """Whether a repository has weights, whose card has code that loads them."""
    from ..cards.files import WEIGHTS

    return (folder / WEIGHTS).is_file()


def _say_how_to_push(folder: Path, repo_type: str) -> None:
    from ..cards.model import named_id

    if named := named_id(folder) if repo_type == "model" else None:
        words = ["publish", "push", str(folder), "--repo", named, "--private", "--dry-run"]
        say_next(words, after="Next, to see what would be sent (without --dry-run it is sent):")
        return
    example = f"jane-doe/{folder.absolute().name}"
    if repo_type == "model" and _loads(folder):
        say(
            f"Next: build it again with --repo and its id on the Hub, your name and the model's, such as {example}, "
            "since the code on its card names no id yet."
        )
        return
    push = f"{stmine_command()} publish push {shlex.quote(str(folder))} --repo {example} --private --dry-run"
    say(f"Next, with your name on the Hub: {push}")


def _print_plan(planned: PushPlan) -> None:
    from rich.table import Table

    to = f"{planned.repo_type} {planned.repo}, {planned.revision}" + (
        "" if planned.exists or not planned.reached else " (to be created)"
    )
    table = Table("file", "bytes", "", title=to)
    for file in planned.files:
        style = {"same": "dim", "removed": "red"}.get(file.state)
        table.add_row(file.path, f"{file.bytes:,}", file.state, style=style)
    print_table(table)
