"""Turn a training run of the small FISVL into the folder that is published, measured figures and card included.

    python examples/package_fisvl.py --run outputs/fisvl-lite-rsicd --data_dir data/rsicd \\
        --out hub_cards/fisvl-lite-rsicd

Takes about a minute on two CPU cores. The card is rendered from the folder's files. After a change of its template
or of modeling/fisvl

    python examples/package_fisvl.py --refresh --out hub_cards/fisvl-lite-rsicd

copies the code and renders the card again; weights and figures stay.
"""

import argparse
from pathlib import Path

from rich.console import Console
from transformers.utils import logging as transformers_logging

from stmine_hf.errors import StmineError
from stmine_hf.hub.fisvl_repository import package_fisvl, refresh_fisvl


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", required=True, type=Path, help="the published folder; its name is the repository's")
    parser.add_argument("--run", type=Path, help="output folder of examples/train_fisvl.py")
    parser.add_argument("--data_dir", type=Path, help="folder of the data set of that run")
    parser.add_argument("--refresh", action="store_true", help="only bring code and README.md up to date")
    args = parser.parse_args()
    if args.refresh:
        refresh_fisvl(args.out)
    elif args.run and args.data_dir:
        report = package_fisvl(args.run, args.out, data_dir=args.data_dir)
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
