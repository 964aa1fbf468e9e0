"""Which training choices matter? One recipe, changed one choice at a time, each run with the same budget.

    python examples/compare_recipes.py examples/recipes/mttv_weibo.yaml --data_dir data/weibo
    python examples/compare_recipes.py examples/recipes/fisvl_rsicd.yaml --data_dir data/rsicd --variants released best
    python examples/compare_recipes.py examples/recipes/sat_small.yaml --sets indiscernible-120

A study is a YAML file:

* `script`, `base`: the training script and the config that every run starts from;
* `options`: fields that all runs have beside it, the budget among them;
* `variants`: a name and the fields that it changes (`model_config`, `dataset_options` are merged); the
  first one is what the others are compared with;
* `sets`, if there are several data sets: a name and the fields of each, its budget among them;
* `metric`: a validation score. It is measured before the first step and at the end of a run: nothing is picked by it;
* `seeds`: a variant is run with each.

Runs that are complete are not repeated, one that was interrupted resumes: start the same command again. The scores of
all complete runs in OUT, those of other `--sets`, `--variants` and `--seeds` too, go to
examples/results/recipes_NAME.json, and their table into examples/RECIPES.md.
Further options (`--max_steps 20`, ...) go to the training script.
"""

import argparse
import json
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import yaml

from stmine_hf.errors import StmineError
from stmine_hf.evaluation.reports import fill_page, versions
from stmine_hf.files import write_entries

HERE = Path(__file__).parent
MERGED = ("model_config", "dataset_options")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", type=Path, help="YAML file, see above")
    parser.add_argument("--out", type=Path, help="folder for the runs; outputs/recipes-NAME by default")
    parser.add_argument("--sets", nargs="+", help="only these of the study's, if it has several")
    parser.add_argument("--variants", nargs="+", help="only these; all by default")
    parser.add_argument("--seeds", nargs="+", type=int, help="only these of the study's")
    parser.add_argument("--results", type=Path, default=HERE / "results", help="folder of the JSON file")
    parser.add_argument("--page", type=Path, default=HERE / "RECIPES.md", help="page whose table is filled in")
    args, more = parser.parse_known_args()
    study = yaml.safe_load(args.study.read_text(encoding="utf-8"))
    out = args.out or Path("outputs") / f"recipes-{args.study.stem}"
    for what, given, there in (
        ("variant", args.variants, study["variants"]),
        ("set", args.sets, study.get("sets") or {}),
        ("seed", args.seeds, study["seeds"]),
    ):
        if unknown := [str(one) for one in given or () if one not in there]:
            raise StmineError(
                f"{args.study} has no {what} {', '.join(unknown)}; it has: {', '.join(map(str, there)) or 'none'}."
            )

    # Seed by seed: stopped early, there is a whole comparison already.
    base = yaml.safe_load((args.study.parent / study["base"]).read_text(encoding="utf-8"))
    for seed in args.seeds or study["seeds"]:
        for name, variant, settings in settings_of(study, base):
            if (args.variants and variant not in args.variants) or (args.sets and name not in args.sets):
                continue
            folder = run_folder(out, name, variant, seed)
            settings = merged(settings, {"seed": seed, "output_dir": str(folder)})
            if not (folder / "results.json").is_file():
                train(HERE / study["script"], settings, folder, more)
            runs = complete_runs(study, out)
            document = {
                "command": shlex.join(
                    ["python", "examples/compare_recipes.py", f"examples/recipes/{args.study.name}"]
                ),
                "study": study,
                "summary": summary(study, runs),
                "runs": runs,
                "versions": versions(),
            }
            write_entries(args.results / f"recipes_{args.study.stem}.json", document)
    table = render(study, document["summary"])
    fill_page(args.page, args.study.stem, table)
    print(table)


def settings_of(study: dict[str, Any], base: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """The set ("" of a study with one), the variant and the settings of all runs, without those of the seed."""
    for name, fields in (study.get("sets") or {"": {}}).items():
        for variant, changes in study["variants"].items():
            yield name, variant, merged(base, study.get("options"), fields, changes)


def run_folder(out: Path, name: str, variant: str, seed: int) -> Path:
    """Where a run lies."""
    return out / "-".join(part for part in (slug(name), slug(variant), str(seed)) if part)


def merged(*layers: dict[str, Any] | None) -> dict[str, Any]:
    """Settings of which later ones win; those of `MERGED` field by field, unless the later one is null."""
    result: dict[str, Any] = {}
    for layer in layers:
        for name, value in (layer or {}).items():
            merges = name in MERGED and value is not None
            result[name] = {**(result.get(name) or {}), **value} if merges else value
    return result


def train(script: Path, settings: dict[str, Any], folder: Path, more: list[str]) -> None:
    """One run of a training script, from its last checkpoint if there is one."""
    folder.mkdir(parents=True, exist_ok=True)
    config = folder / "recipe.yaml"
    config.write_text(yaml.safe_dump(settings, sort_keys=False), encoding="utf-8")
    command = [str(script), "--config", str(config), "--resume_from_checkpoint", "auto", *more]
    print(shlex.join(["python", *command]), flush=True)
    if subprocess.run([sys.executable, *command]).returncode:
        raise StmineError(f"The run in {folder} failed, see above; start again to resume it.")


def complete_runs(study: dict[str, Any], out: Path) -> list[dict[str, Any]]:
    """What `OUT` has of the study, seed by seed."""
    return [
        {**({"set": name} if name else {}), "variant": variant, "seed": seed, **read(folder, study["metric"])}
        for seed in study["seeds"]
        for name, variant, _ in settings_of(study, {})
        if ((folder := run_folder(out, name, variant, seed)) / "results.json").is_file()
    ]


def read(folder: Path, metric: str) -> dict[str, Any]:
    """What the table keeps of a run."""
    results = json.loads((folder / "results.json").read_text(encoding="utf-8"))
    start = results.get("start")  # runs of version 0.1 have none
    return {
        **({"before": start[f"eval_{metric}"]} if start else {}),
        "score": results["best"][f"eval_{metric}"],
        "steps": results["best"]["step"],
        "train_seconds": round(results["training"]["train_runtime"]),
    }


def summary(study: dict[str, Any], runs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """For each variant the mean, the spread and the ratio to the first one, over the seeds that both have.

    Of a study of several sets so for each set.
    """
    rows: list[dict[str, Any]] = []
    first: dict[int, float] = {}
    of_set = ""
    for name, variant, _ in settings_of(study, {}):
        mine = [run for run in runs if run["variant"] == variant and run.get("set", "") == name]
        if not mine:
            continue
        if name != of_set:
            first, of_set = {}, name
        scores = {run["seed"]: run["score"] for run in mine}
        first = first or scores
        each, shared = list(scores.values()), scores.keys() & first.keys()
        row = {"variant": variant, "mean": mean(each), "each": each, "spread": stdev(each) if len(each) > 1 else None}
        if name:
            row = {"set": name, "before": mean(run["before"] for run in mine), "steps": mine[0]["steps"]} | row
        row["seconds"] = round(mean(run["train_seconds"] for run in mine))
        base = sum(first[seed] for seed in shared)
        rows.append(row | {"ratio": sum(scores[seed] for seed in shared) / base if base else None})
    return rows


def render(study: dict[str, Any], rows: list[dict[str, Any]]) -> str:
    """The summary as a Markdown table."""
    digits = 2 if max(row["mean"] for row in rows) > 1 else 4
    if "sets" in study:
        lines = [
            f"| set | recipe | steps | {study['metric']} before | after, mean | each seed | training, s |",
            "|---|---|---|---|---|---|---|",
        ]
    else:
        lines = [
            f"| variant | {study['metric']}, mean | each seed | to the first | training, s |",
            "|---|---|---|---|---|",
        ]
    for row in rows:
        each = ", ".join(f"{score:.{digits}f}" for score in row["each"])
        ratio = "-" if row["ratio"] is None else f"{row['ratio']:.3f}"
        after = f"{row['mean']:.{digits}f} | {each}"
        if "sets" in study:
            start = f"{row['set']} | {row['variant']} | {row['steps']} | {row['before']:.{digits}f}"
            lines.append(f"| {start} | {after} | {row['seconds']} |")
        else:
            lines.append(f"| {row['variant']} | {after} | {ratio} | {row['seconds']} |")
    return "\n".join(lines)


def slug(name: str) -> str:
    return "-".join("".join(c if c.isalnum() else " " for c in name.lower()).split())


if __name__ == "__main__":
    try:
        main()
    except StmineError as error:
        raise SystemExit(f"error: {error}") from None
