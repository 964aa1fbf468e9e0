"""Train SAT, or NanoDet-m: a light detector, on images with boxes.

    accelerate launch examples/train_sat.py --config examples/configs/sat_toy.yaml
    accelerate launch examples/train_sat.py --config examples/configs/sat_coco_small.yaml --data_dir data/coco_small
    accelerate launch examples/train_sat.py --config RUN/config.yaml --resume_from_checkpoint auto

`examples/accelerate/` has settings for one CPU, two processes on it, several GPUs, FSDP, DeepSpeed and several nodes:
`accelerate launch --config_file examples/accelerate/gpus.yaml ...`. One process needs no launcher:
`python examples/train_sat.py ...` does the same, and accelerate adds no traceback to an error (nor does it with
`--quiet`). The order of the data, augmentation and dropout follow from `seed`; the joint batch of all processes has
the same samples as the batch of one process of that size.

A run may be killed at any time and resumes with `--resume_from_checkpoint auto`, to the same weights; SIGTERM and
Ctrl-C save a checkpoint first. A folder that holds a run is not overwritten without `--overwrite_output_dir true`.

Any field of the YAML file can be given on the command line too, which wins; `--help` lists them all. `output_dir` gets
`best/` (the model with the highest validation AP, ready for `stmine detect --model`), checkpoints to resume from,
`config.yaml` (the settings as resolved), and at the end `results.json` and `curves.png`.
"""

import logging
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

from stmine_hf.hub import publish_run, require_login
from stmine_hf.training import (
    BoxedImages,
    BoxedStream,
    SatCollator,
    SatDataArguments,
    SatModelArguments,
    SatTrainer,
    SatTrainingArguments,
    SatTransform,
    add_adapter,
    build_recipe,
    build_sat,
    category_label,
    finish_run,
    first_batches,
    recalibrate_batchnorm,
    run_script,
    start_run,
)

METRICS = ["ap", "ap50", "ap75"]  # in the curves; the first says what is best


def main() -> None:
    # 1. Settings: one YAML file, the command line on top.
    run = start_run(SatModelArguments, SatDataArguments, SatTrainingArguments)
    model_args, data_args, args = run.model, run.data, run.args
    if args.push_to_hub and args.should_save:
        require_login(args.hub_model_id)  # hours before it is needed

    # 2. Data.
    train_rows, eval_rows = run.load_rows("boxes", data_args.max_train_images, data_args.max_eval_images)
    names = category_label(train_rows.features).names

    # 3. Model and processor.
    model, processor = build_sat(model_args, names, data_args.image_size)
    if args.peft:
        resuming = run.checkpoint is not None
        model = add_adapter(model, processor, args, model_args.model_name_or_path, resuming=resuming)
    model.to(memory_format=torch.channels_last)  # convolutions run up to twice as fast on a CPU

    # 4. Training samples: augmentation of images and boxes.
    samples: BoxedImages | BoxedStream
    if data_args.streaming:
        samples = BoxedStream(train_rows, args, data_args.shuffle_buffer, names, model.config.label2id)
    else:
        samples = BoxedImages(train_rows, names, model.config.label2id, args.seed)
    recipe = build_recipe(data_args.augmentation, data_args.augmentation_options)
    collator = SatCollator(SatTransform(recipe, processor, data_args.train_image_size))

    if model_args.recalibrate_batchnorm and not run.checkpoint and not args.peft:  # adapters train on fixed statistics
        few = first_batches(samples, collator, model_args.recalibrate_batchnorm, args.per_device_train_batch_size)
        count = recalibrate_batchnorm(model, few)
        logging.info(f"{count} batch norms have the statistics of {model_args.recalibrate_batchnorm} batches.")

    # 5. Train.
    trainer = SatTrainer(
        model=model,
        args=args,
        train_dataset=samples,
        eval_dataset=eval_rows,
        data_collator=collator,
        processing_class=processor,
    )
    run.train(trainer, "sat")

    # 6. Write up, publish.
    if trainer.is_world_process_zero():
        best = finish_run(run, trainer, METRICS, "validation average precision", seed=args.seed)
        print_summary(best, run.output_dir)
        if args.push_to_hub or args.push_dry_run:
            publish_run(run.output_dir, args.hub_model_id, private=args.hub_private_repo, dry_run=args.push_dry_run)


def print_summary(best: dict | None, output_dir: Path) -> None:
    """The best validation scores and what to type next."""
    if best is not None:
        table = Table(title=f"Best on validation: step {best['step']}, epoch {best['epoch']:.0f}")
        for name in METRICS:
            table.add_column(name.upper(), justify="right")
        table.add_row(*(f"{best[f'eval_{name}']:.4f}" for name in METRICS))
        Console().print(table)
    print(f"Model, scores and curves are in {output_dir}. Look for objects in your own images with it:")
    print(f"  stmine detect IMAGES --model {output_dir / 'best'} --out detections")


if __name__ == "__main__":
    run_script(main)
