"""Train FISVL: image-text retrieval on remote-sensing images.

    accelerate launch examples/train_fisvl.py --config examples/configs/fisvl_toy.yaml
    accelerate launch examples/train_fisvl.py --config examples/configs/official_rsicd.yaml --data_dir data/rsicd
    accelerate launch examples/train_fisvl.py --config RUN/config.yaml --resume_from_checkpoint auto

`examples/accelerate/` has settings for one CPU, two processes on it, several GPUs, FSDP, DeepSpeed and several nodes:
`accelerate launch --config_file examples/accelerate/gpus.yaml ...`. One process needs no launcher:
`python examples/train_fisvl.py ...` does the same, and accelerate adds no traceback to an error (nor does it with
`--quiet`). The order of the data, augmentation and dropout follow from `seed`; the joint batch of all processes has
the same samples as the batch of one process of that size.

A run may be killed at any time and resumes with `--resume_from_checkpoint auto`, to the same weights; SIGTERM and
Ctrl-C save a checkpoint first. A folder that holds a run is not overwritten without `--overwrite_output_dir true`.

Any field of the YAML file can be given on the command line too, which wins; `--help` lists them all. `output_dir` gets
`best/` (the model with the highest validation mean recall, ready for `stmine index --model`), checkpoints to resume
from, `config.yaml` (the settings as resolved), and at the end `results.json` and `curves.png`.
"""

from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

from stmine_hf.hub import publish_run, require_login
from stmine_hf.training import (
    CaptionedImages,
    CaptionedStream,
    FisvlCollator,
    FisvlDataArguments,
    FisvlModelArguments,
    FisvlTrainer,
    FisvlTrainingArguments,
    add_adapter,
    build_fisvl,
    build_fisvl_transform,
    finish_run,
    run_script,
    start_run,
)

METRICS = ["r_mean", "txt_r1", "txt_r10", "img_r1", "img_r10"]  # in the curves; the first says what is best


def main() -> None:
    # 1. Settings: one YAML file, the command line on top.
    run = start_run(FisvlModelArguments, FisvlDataArguments, FisvlTrainingArguments)
    model_args, data_args, args = run.model, run.data, run.args
    if args.push_to_hub and args.should_save:
        require_login(args.hub_model_id)  # hours before it is needed

    # 2. Data.
    train_rows, eval_rows = run.load_rows("captions", data_args.max_train_images, data_args.max_eval_images)

    # 3. Model and processor.
    model, processor = build_fisvl(model_args, train_rows)
    if args.peft:
        resuming = run.checkpoint is not None
        model = add_adapter(model, processor, args, model_args.model_name_or_path, resuming=resuming)
    model.to(memory_format=torch.channels_last)  # convolutions run up to three times as fast on a CPU

    # 4. Training samples: which captions, word dropping, augmentation, tokens.
    max_words = processor.max_words if processor.clean_captions else None
    samples: CaptionedImages | CaptionedStream
    if data_args.streaming:
        samples = CaptionedStream(train_rows, args, data_args.shuffle_buffer, data_args.captions_per_step, max_words)
    else:
        samples = CaptionedImages(train_rows, data_args.captions_per_step, max_words, args.seed)
    transform = build_fisvl_transform(data_args.augmentation, processor.image_processor, data_args.train_image_size)
    collator = FisvlCollator(processor, transform, data_args.deletion_rate)

    # 5. Train.
    trainer = FisvlTrainer(
        model=model,
        args=args,
        train_dataset=samples,
        eval_dataset=eval_rows,
        data_collator=collator,
        processing_class=processor,
    )
    run.train(trainer, "fisvl")

    # 6. Write up, publish.
    if trainer.is_world_process_zero():
        print_summary(finish_run(run, trainer, METRICS, "validation recall, %"), run.output_dir)
        if args.push_to_hub or args.push_dry_run:
            publish_run(run.output_dir, args.hub_model_id, private=args.hub_private_repo, dry_run=args.push_dry_run)


def print_summary(best: dict | None, output_dir: Path) -> None:
    """The best validation scores and what to type next."""
    if best is not None:
        table = Table(title=f"Best on validation: step {best['step']}, epoch {best['epoch']:.0f}")
        for column in ("query", "R@1", "R@5", "R@10"):
            table.add_column(column, justify="left" if column == "query" else "right")
        table.add_row("image -> text", *(f"{best[f'eval_txt_r{k}']:.2f}" for k in (1, 5, 10)))
        table.add_row("text -> image", *(f"{best[f'eval_img_r{k}']:.2f}" for k in (1, 5, 10)))
        table.add_row("mean recall", "", "", f"{best['eval_r_mean']:.2f}", style="bold")
        Console().print(table)
    print(f"Model, scores and curves are in {output_dir}. Search your own images with it:")
    print(f"  stmine index IMAGES --model {output_dir / 'best'} --out my-index")
    print('  stmine search my-index "many planes near a terminal"')


if __name__ == "__main__":
    run_script(main)
