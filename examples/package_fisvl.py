"""Turn a training run of the small FISVL into the folder that is published, measured figures and card included.

    python examples/package_fisvl.py --run outputs/fisvl-lite-rsicd --data_dir data/rsicd \\
        --out hub_cards/fisvl-lite-rsicd

Takes about a minute on two CPU cores. The card is rendered from the folder's files; after a change of its template

    python examples/package_fisvl.py --card_only --out hub_cards/fisvl-lite-rsicd

renders it again and measures nothing.
"""

import argparse
from pathlib import Path

from rich.console import Console
from transformers.utils import logging as transformers_logging

from stmine_hf.errors import StmineError
from stmine_hf.hub.fisvl_repository import fisvl_card, package_fisvl


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", required=True, type=Path, help="the published folder; its name is the repository's")
    parser.add_argument("--run", type=Path, help="output folder of examples/train_fisvl.py")
    parser.add_argument("--data_dir", type=Path, help="folder of the data set of that run")
    parser.add_argument("--card_only", action="store_true", help="only render README.md again")
    args = parser.parse_args()
    if args.card_only:
        fisvl_card(args.out).save(args.out / "README.md")
    elif args.run and args.data_dir:
        report = package_fisvl(args.run, args.out, data_dir=args.data_dir)
        Console().print(report.table())
    else:
        parser.error("needs --run and --data_dir, or --card_only")
    print(f"Written: {args.out}. Read its README.md before you publish it.")


if __name__ == "__main__":
    transformers_logging.disable_progress_bar()
    try:
        main()
    except StmineError as error:
        raise SystemExit(f"error: {error}") from None
