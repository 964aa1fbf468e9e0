"""Train SAT, or NanoDet-m: a light detector, on images with boxes.

    accelerate launch examples/train_sat.py --config examples/configs/sat_toy.yaml
    accelerate launch examples/train_sat.py --config examples/configs/sat_coco_small.yaml --data_dir data/coco_small
    accelerate launch examples/train_sat.py --config RUN/config.yaml --resume_from_checkpoint auto

`examples/accelerate/` has settings for one CPU, two processes on it, several GPUs, FSDP, DeepSpeed and several nodes:
`accelerate launch --config_file examples/accelerate/gpus.yaml ...`. The order of the data, augmentation and dropout
follow from `seed`; the joint batch of all processes has the same samples as the batch of one process of that size.

A run may be killed at any time and goes on with `--resume_from_checkpoint auto`, to the same weights; SIGTERM and
Ctrl-C save a checkpoint first.

Any field of the YAML file can be given on the command line too, which wins; `--help` lists them all. `output_dir` gets
`best/` (the model with the highest validation AP, ready for `stmine detect --model`), checkpoints to resume from,
`config.yaml` (the settings as resolved), and at the end `results.json` and `curves.png`.
"""

import logging
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table
from transformers import AutoConfig, set_seed

from stmine_hf import SatConfig, SatForObjectDetection, SatImageProcessor
from stmine_hf.cards.run import RunCard
from stmine_hf.data.boxed_images import category_label
from stmine_hf.errors import StmineError
from stmine_hf.training.adapters import add_adapter
from stmine_hf.training.arguments import parse_arguments, save_arguments
from stmine_hf.training.checkpoints import resume_point
from stmine_hf.training.publishing import publish_best
from stmine_hf.training.rows import load_rows
from stmine_hf.training.sat.arguments import SatDataArguments, SatModelArguments, SatTrainingArguments
from stmine_hf.training.sat.collator import BoxedImages, BoxedStream, SatCollator, first_batches
from stmine_hf.training.sat.toy_model import build_toy_sat
from stmine_hf.training.sat.trainer import SatTrainer
from stmine_hf.training.sat.transforms import SatTransform, build_recipe
from stmine_hf.training.sat.warm_start import carry_weights, recalibrate_batchnorm
from stmine_hf.training.script import run_script
from stmine_hf.training.trainer import BEST_FOLDER
from stmine_hf.training.write_up import best_evaluation, plot_curves, write_results

METRICS = ("ap", "ap50", "ap75")  # in the curves; the first says what is best


def main() -> None:
    # 1. Settings: one YAML file, the command line on top.
    model_args, data_args, args = parse_arguments((SatModelArguments, SatDataArguments, SatTrainingArguments))
    logging.basicConfig(level=logging.INFO if args.process_index == 0 else logging.ERROR, format="%(message)s")
    output_dir = Path(args.output_dir)
    if args.should_save:
        output_dir.mkdir(parents=True, exist_ok=True)
        save_arguments(output_dir / "config.yaml", model_args, data_args, args)
    set_seed(args.seed)

    # 2. Data.
    train_rows, eval_rows = load_rows("boxes", data_args, args, data_args.max_train_images, data_args.max_eval_images)
    names = category_label(train_rows.features).names

    # 3. Model and processor.
    try:
        model = build_model(model_args, names)
        processor = build_processor(model_args, model, data_args.image_size)
    except (OSError, ValueError) as error:  # nothing there; settings that contradict each other
        raise StmineError(f"Cannot make the model: {' '.join(str(error).split())}") from error
    resume = resume_point(args)
    if args.peft:
        model = add_adapter(model, processor, args, model_args.model_name_or_path, resuming=resume is not None)
    model.to(memory_format=torch.channels_last)  # convolutions run up to twice as fast on a CPU

    # 4. Training samples: augmentation of images and boxes.
    samples: BoxedImages | BoxedStream
    if data_args.streaming:
        samples = BoxedStream(train_rows, args, data_args.shuffle_buffer, names, model.config.label2id)
    else:
        samples = BoxedImages(train_rows, names, model.config.label2id, args.seed)
    recipe = build_recipe(data_args.augmentation, data_args.augmentation_options)
    collator = SatCollator(SatTransform(recipe, processor, data_args.train_image_size))

    if model_args.recalibrate_batchnorm and not resume and not args.peft:  # adapters train on batch norms at rest
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
    trainer.card = RunCard("sat", model_args, data_args, args)
    trainer.train(resume_from_checkpoint=resume)

    # 6. Write up.
    if trainer.is_world_process_zero():
        if eval_rows is None:
            trainer.keep_last()
        history = trainer.state.log_history
        facts = {
            "parameters": sum(tensor.numel() for tensor in model.parameters()),
            "unreadable": samples.unreadable,
            "seed": args.seed,
        }
        write_results(output_dir / "results.json", history, METRICS[0], **facts)
        plot_curves(output_dir / "curves.png", history, METRICS, "validation average precision")
        print_summary(best_evaluation(history, METRICS[0]), output_dir)
        publish_best(output_dir / BEST_FOLDER, args)


def build_model(args: SatModelArguments, names: list[str]) -> SatForObjectDetection:
    """The design of a folder, a preset or a tiny one, for the data set's classes, with the weights that fit."""
    fields = args.model_config or {}
    if unknown := set(fields) - set(SatConfig().to_dict()):
        raise StmineError(f"model_config: SatConfig has no field {', '.join(sorted(unknown))}.")
    if args.toy_model:
        model = build_toy_sat(names, **fields)
    elif args.preset:
        model = SatForObjectDetection(SatConfig.preset(args.preset, id2label=dict(enumerate(names)), **fields))
    else:
        known = AutoConfig.from_pretrained(args.model_name_or_path).to_dict()
        classes = {"id2label": dict(enumerate(names)), "label2id": {name: i for i, name in enumerate(names)}}
        model = SatForObjectDetection(SatConfig(**{**known, **classes, **fields}))
    if source := args.model_name_or_path or args.init_from:
        logging.info(f"{source}: {carry_weights(model, source)}")
    return model.train()


def build_processor(args: SatModelArguments, model: SatForObjectDetection, size: int | None) -> SatImageProcessor:
    """That of the folder the model comes from, or the standard one; `size` pixels if given."""
    given = {"size": {"height": size, "width": size}} if size else {}
    if args.model_name_or_path:
        return SatImageProcessor.from_pretrained(args.model_name_or_path, **given)
    return SatImageProcessor.for_config(model.config, **given)


def print_summary(best: dict | None, output_dir: Path) -> None:
    """The best validation scores and what to type next."""
    if best is not None:
        table = Table(title=f"Best on validation: step {best['step']}, epoch {best['epoch']:.0f}")
        for name in METRICS:
            table.add_column(name.upper(), justify="right")
        table.add_row(*(f"{best[f'eval_{name}']:.4f}" for name in METRICS))
        Console().print(table)
    print(f"Model, scores and curves are in {output_dir}. Look for objects in your own images with it:")
    print(f"  stmine detect IMAGES --model {output_dir / BEST_FOLDER} --out detections")


if __name__ == "__main__":
    run_script(main)
