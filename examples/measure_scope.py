r"""Measure what a model was trained on, so that `stmine` can warn beside its answers to anything else.

    python examples/measure_scope.py hub_cards/mttv-lite-weibo --dataset weibo --data-dir data/weibo \
        --option validation=events
    python examples/measure_scope.py hub_cards/fisvl-lite-rsicd --dataset rsicd --data-dir data/rsicd

Writes scope.json into the model's folder. A minute on a CPU for 1,000 images.
"""

import argparse

from stmine_hf import load_dataset
from stmine_hf.evaluation.scope import measure_posts, measure_search
from stmine_hf.loading import load_fisvl, load_mttv


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="folder of the model")
    parser.add_argument("--dataset", required=True, help="captioned images for FISVL, posts for MTTV")
    parser.add_argument("--data-dir", required=True)
    parser.add_argument("--split", default="val", help="never the test split")
    parser.add_argument("--option", action="append", default=[], metavar="NAME=VALUE", help="of the data set")
    arguments = parser.parse_args()

    # 1. data
    options = dict(option.split("=", 1) for option in arguments.option)
    rows = load_dataset(arguments.dataset, data_dir=arguments.data_dir, split=arguments.split, **options)
    words = ["--dataset", arguments.dataset, *(f"--option {option}" for option in arguments.option)]
    measured = f"examples/measure_scope.py {' '.join(words)}, {arguments.split} split ({len(rows)} rows)"

    # 2. measure
    if "captions" in rows.column_names:
        scope = measure_search(*load_fisvl(arguments.model), rows, measured)
    else:
        load_mttv(arguments.model)  # it must be one
        scope = measure_posts(list(rows["text"]), measured)

    # 3. write
    print(scope)
    print(f"Written: {scope.save(arguments.model)}")


if __name__ == "__main__":
    main()
