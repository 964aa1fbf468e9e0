"""Turn a run of SAT into the folder that is published, measured figures and card included.

    python examples/benchmark_sat.py --models nanodet-m=outputs/nanodet-m-coco sat=outputs/sat-coco-small/best \\
        --out outputs/benchmark.json
    python examples/package_sat.py --run outputs/sat-coco-small --data_dir data/coco_small \\
        --parent outputs/nanodet-m-coco --benchmark outputs/benchmark.json --out hub_cards/sat-coco-small
    python examples/package_sat.py --run outputs/sat-indiscernible --data_dir data/indiscernible \\
        --parent outputs/nanodet-m-indiscernible/best --out hub_cards/sat-indiscernible

Takes about a minute on two CPU cores. The card is rendered from the folder's files. After a change of its template
or of modeling/sat

    python examples/package_sat.py --refresh --out hub_cards/sat-coco-small

copies the code and renders the card again; weights and figures stay.
"""

import argparse
from pathlib import Path

from rich.console import Console
from transformers.utils import logging as transformers_logging

from stmine_hf.errors import StmineError
from stmine_hf.hub.sat_repository import package_sat, refresh_sat


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", required=True, type=Path, help="the published folder; its name is the repository's")
    parser.add_argument("--run", type=Path, help="output folder of examples/distill_sat.py or examples/train_sat.py")
    parser.add_argument("--data_dir", type=Path, help="folder of the data set of that run")
    parser.add_argument("--parent", type=Path, help="NanoDet-m to compare with: a model folder")
    parser.add_argument("--benchmark", type=Path, help="file of examples/benchmark_sat.py --out")
    parser.add_argument("--refresh", action="store_true", help="only bring code and README.md up to date")
    args = parser.parse_args()
    if args.refresh:
        refresh_sat(args.out)
    elif args.run and args.data_dir:
        report = package_sat(args.run, args.out, data_dir=args.data_dir, parent=args.parent, benchmark=args.benchmark)
        Console().print(report.table())
    else:
        parser.error("needs --run and --data_dir, or --refresh")
    print(f"Written: {args.out}. Read its README.md before you publish it.")


if __name__ == "__main__":
    transformers_logging.disable_progress_bar()
    try:
        main()
    except StmineError as error:
        raise SystemExit(f"error: {error}") from None
