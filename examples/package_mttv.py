"""Turn a training run of the small MTTV into the folder that is published, measured figures and card included.

    python examples/baseline_weibo.py --data_dir data/weibo --split test --out outputs/baselines.json
    python examples/package_mttv.py --run outputs/mttv-lite-weibo --data_dir data/weibo \\
        --baselines outputs/baselines.json --released outputs/mttv-released-weibo --out hub_cards/mttv-lite-weibo

Takes two minutes on two CPU cores. It measures on the test split: do it once, when everything is chosen. The card is
rendered from the folder's files. After a change of its template or of modeling/mttv

    python examples/package_mttv.py --refresh --out hub_cards/mttv-lite-weibo

copies the code and renders the card again; weights and figures stay.
"""

import argparse
from pathlib import Path

from rich.console import Console
from transformers.utils import logging as transformers_logging

from stmine_hf.errors import StmineError
from stmine_hf.hub.mttv_repository import package_mttv, refresh_mttv


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", required=True, type=Path, help="the published folder; its name is the repository's")
    parser.add_argument("--run", type=Path, help="output folder of examples/train_mttv.py")
    parser.add_argument("--data_dir", type=Path, help="folder of the data set of that run")
    parser.add_argument("--baselines", type=Path, help="file of examples/baseline_weibo.py --split test --out")
    parser.add_argument("--released", type=Path, help="output folder of a run with configs/released_weibo_lite_start")
    parser.add_argument("--refresh", action="store_true", help="only bring code and README.md up to date")
    args = parser.parse_args()
    if args.refresh:
        refresh_mttv(args.out)
    elif args.run and args.data_dir:
        reports = package_mttv(
            args.run, args.out, data_dir=args.data_dir, baselines=args.baselines, released=args.released
        )
        for report in reports.values():
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
