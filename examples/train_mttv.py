"""Train MTTV: is a post, with text and image, fake?

    accelerate launch examples/train_mttv.py --config examples/configs/mttv_toy.yaml
    accelerate launch examples/train_mttv.py --config examples/configs/official_weibo.yaml --data_dir data/weibo
    accelerate launch examples/train_mttv.py --config RUN/config.yaml --resume_from_checkpoint auto

`examples/accelerate/` has settings for one CPU, two processes on it, several GPUs, FSDP, DeepSpeed and several nodes:
`accelerate launch --config_file examples/accelerate/gpus.yaml ...`. One process needs no launcher:
`python examples/train_mttv.py ...` does the same, and accelerate adds no traceback to an error (nor does it with
`--quiet`). The order of the data, augmentation and dropout follow from `seed`; the joint batch of all processes has
the same samples as the batch of one process of that size.

A run may be killed at any time and resumes with `--resume_from_checkpoint auto`, to the same weights; SIGTERM and
Ctrl-C save a checkpoint first. A folder that holds a run is not overwritten without `--overwrite_output_dir true`.

Any field of the YAML file can be given on the command line too, which wins; `--help` lists them all. `output_dir` gets
`best/` (the model with the best validation metric, ready for `stmine classify --model`), checkpoints to resume from,
`config.yaml` (the settings as resolved), and at the end `results.json` and `curves.png`.
"""

import logging
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

from stmine_hf.hub import publish_run, require_login
from stmine_hf.training import (
    MttvCollator,
    MttvDataArguments,
    MttvModelArguments,
    MttvTrainer,
    MttvTrainingArguments,
    Posts,
    PostStream,
    add_adapter,
    build_mttv,
    build_mttv_transform,
    finish_run,
    keep_modalities,
    kept_features,
    load_detector,
    run_script,
    start_run,
)


def main() -> None:
    # 1. Settings: one YAML file, the command line on top.
    run = start_run(MttvModelArguments, MttvDataArguments, MttvTrainingArguments)
    model_args, data_args, args = run.model, run.data, run.args
    if args.push_to_hub and args.should_save:
        require_login(args.hub_model_id)  # hours before it is needed

    # 2. Data.
    train_rows, eval_rows = run.load_rows("posts", data_args.max_train_posts, data_args.max_eval_posts)

    # 3. Model and processor.
    model, processor = build_mttv(model_args, train_rows)
    if args.peft:
        resuming = run.checkpoint is not None
        model = add_adapter(model, processor, args, model_args.model_name_or_path, resuming=resuming)
    model.to(memory_format=torch.channels_last)  # convolutions run up to three times as fast on a CPU

    # 4. Training samples: which parts of a post are shown, augmentation, regions, tokens.
    if model.config.vision_config is None and data_args.features is None and data_args.modalities != "text":
        logging.info("The model has no visual encoder, and there are no features: it trains on the texts alone.")
        data_args.modalities = "text"
    train_rows = keep_modalities(train_rows, data_args.modalities)
    eval_rows = None if eval_rows is None else keep_modalities(eval_rows, data_args.modalities)
    detector = load_detector(data_args.detector) if data_args.detector else None
    features = None
    if data_args.features and data_args.modalities != "text":
        with args.main_process_first(desc="computing visual features"):
            wanted = [rows for rows in (train_rows, eval_rows) if rows is not None]
            features = kept_features(data_args.features, model, processor, wanted, detector=detector)
    samples: Posts | PostStream
    if data_args.streaming:
        samples = PostStream(
            train_rows, args, data_args.shuffle_buffer, model.config.label2id, data_args.image_dropping
        )
    else:
        samples = Posts(train_rows, model.config.label2id, args.seed, data_args.image_dropping, features)
    transform = build_mttv_transform(data_args.image_augmentation)
    collator = MttvCollator(processor, transform, detector, data_args.token_dropping)

    # 5. Train.
    trainer = MttvTrainer(
        model=model,
        args=args,
        train_dataset=samples,
        eval_dataset=eval_rows,
        data_collator=collator,
        processing_class=processor,
        detector=detector,
        features=features,
    )
    run.train(trainer, "mttv")

    # 6. Scale the classes by their validation recalls, if set; write up, publish.
    if trainer.is_world_process_zero():
        scaled = trainer.fit_scaling_factors(args.scaling_tau) if args.scaling_tau else None
        metrics = list(dict.fromkeys([args.metric_for_best_model, "accuracy", "macro_f1"]))
        print_summary(finish_run(run, trainer, metrics, "validation", scaled=scaled), scaled, run.output_dir)
        if args.push_to_hub or args.push_dry_run:
            publish_run(run.output_dir, args.hub_model_id, private=args.hub_private_repo, dry_run=args.push_dry_run)


def print_summary(best: dict | None, scaled: dict | None, output_dir: Path) -> None:
    """The best validation scores and what to type next."""
    if best is not None:
        table = Table(title=f"Best on validation: step {best['step']}, epoch {best['epoch']:.0f}")
        for column in ("", "accuracy", "macro F1", "ECE"):
            table.add_column(column, justify="right" if column else "left")
        rows = {"best model": {name.removeprefix("eval_"): value for name, value in best.items()}}
        if scaled is not None:
            rows["with scaled classes"] = scaled
        for name, metrics in rows.items():
            table.add_row(name, *(f"{metrics[score]:.4f}" for score in ("accuracy", "macro_f1", "ece")))
        Console().print(table)
    model = output_dir / "best"
    print(f"Model, scores and curves are in {output_dir}. Judge a post with it:")
    print(f'  stmine classify --text "..." --image photo.jpg --model {model}')


if __name__ == "__main__":
    run_script(main)
