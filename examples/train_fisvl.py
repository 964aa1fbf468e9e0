"""Train FISVL: image-text retrieval on remote-sensing images.

    accelerate launch examples/train_fisvl.py --config examples/configs/fisvl_toy.yaml
    accelerate launch examples/train_fisvl.py --config examples/configs/official_rsicd.yaml --data_dir data/rsicd
    accelerate launch examples/train_fisvl.py --config RUN/config.yaml --resume_from_checkpoint auto

`examples/accelerate/` has settings for one CPU, two processes on it, several GPUs, FSDP, DeepSpeed and several nodes:
`accelerate launch --config_file examples/accelerate/gpus.yaml ...`. The order of the data, augmentation and dropout
follow from `seed`; the joint batch of all processes has the same samples as the batch of one process of that size.

A run may be killed at any time and goes on with `--resume_from_checkpoint auto`, to the same weights; SIGTERM and
Ctrl-C save a checkpoint first.

Any field of the YAML file can be given on the command line too, which wins; `--help` lists them all. `output_dir` gets
`best/` (the model with the highest validation mean recall, ready for `stmine index --model`), checkpoints to resume
from, `config.yaml` (the settings as resolved), and at the end `results.json` and `curves.png`.
"""

import logging
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table
from transformers import AutoTokenizer, set_seed

from stmine_hf import FisvlConfig, FisvlModel, FisvlProcessor
from stmine_hf.cards.run import RunCard
from stmine_hf.errors import StmineError
from stmine_hf.modeling.fisvl.processing_fisvl import FisvlImageProcessor
from stmine_hf.training.adapters import add_adapter
from stmine_hf.training.arguments import parse_arguments, save_arguments
from stmine_hf.training.checkpoints import resume_point
from stmine_hf.training.fisvl.arguments import FisvlDataArguments, FisvlModelArguments, FisvlTrainingArguments
from stmine_hf.training.fisvl.collator import CaptionedImages, CaptionedStream, FisvlCollator
from stmine_hf.training.fisvl.toy_model import build_toy_fisvl
from stmine_hf.training.fisvl.trainer import FisvlTrainer
from stmine_hf.training.fisvl.transforms import build_transform
from stmine_hf.training.publishing import publish_best
from stmine_hf.training.rows import load_rows
from stmine_hf.training.script import run_script
from stmine_hf.training.trainer import BEST_FOLDER
from stmine_hf.training.write_up import best_evaluation, plot_curves, write_results

METRICS = ("r_mean", "txt_r1", "txt_r10", "img_r1", "img_r10")  # in the curves; the first says what is best


def main() -> None:
    # 1. Settings: one YAML file, the command line on top.
    model_args, data_args, args = parse_arguments((FisvlModelArguments, FisvlDataArguments, FisvlTrainingArguments))
    logging.basicConfig(level=logging.INFO if args.process_index == 0 else logging.ERROR, format="%(message)s")
    output_dir = Path(args.output_dir)
    if args.should_save:
        output_dir.mkdir(parents=True, exist_ok=True)
        save_arguments(output_dir / "config.yaml", model_args, data_args, args)
    set_seed(args.seed)

    # 2. Data.
    train_rows, eval_rows = load_rows(
        "captions", data_args, args, data_args.max_train_images, data_args.max_eval_images
    )

    # 3. Model and processor.
    try:
        model, processor = build_model(model_args, train_rows)
    except (OSError, ValueError) as error:  # nothing there; settings that contradict each other
        raise StmineError(f"Cannot make the model: {' '.join(str(error).split())}") from error
    resume = resume_point(args)
    if args.peft:
        model = add_adapter(model, processor, args, model_args.model_name_or_path, resuming=resume is not None)
    model.to(memory_format=torch.channels_last)  # convolutions run up to three times as fast on a CPU

    # 4. Training samples: which captions, word dropping, augmentation, tokens.
    max_words = processor.max_words if processor.clean_captions else None
    samples: CaptionedImages | CaptionedStream
    if data_args.streaming:
        samples = CaptionedStream(train_rows, args, data_args.shuffle_buffer, data_args.captions_per_step, max_words)
    else:
        samples = CaptionedImages(train_rows, data_args.captions_per_step, max_words, args.seed)
    transform = build_transform(data_args.augmentation, processor.image_processor, data_args.train_image_size)
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
    trainer.card = RunCard("fisvl", model_args, data_args, args)
    trainer.train(resume_from_checkpoint=resume)

    # 6. Write up.
    if trainer.is_world_process_zero():
        if eval_rows is None:
            trainer.keep_last()
        history = trainer.state.log_history
        parameters = sum(tensor.numel() for tensor in model.parameters())
        write_results(
            output_dir / "results.json", history, METRICS[0], parameters=parameters, unreadable=samples.unreadable
        )
        plot_curves(output_dir / "curves.png", history, METRICS, "validation recall, %")
        print_summary(best_evaluation(history, METRICS[0]), output_dir)
        publish_best(output_dir / BEST_FOLDER, args)


def build_model(args: FisvlModelArguments, train_rows) -> tuple[FisvlModel, FisvlProcessor]:
    """From a FISVL folder, from pretrained backbones, or a tiny one from nothing."""
    fields = args.model_config or {}
    if unknown := set(fields) - set(FisvlConfig().to_dict()):
        raise StmineError(f"model_config: FisvlConfig has no field {', '.join(sorted(unknown))}.")
    if args.toy_model:
        captions = (caption for captions in train_rows["captions"] for caption in captions)
        return build_toy_fisvl(captions, **fields)
    if args.model_name_or_path:
        model = FisvlModel.from_pretrained(args.model_name_or_path, **fields)
        return model.train(), FisvlProcessor.from_pretrained(args.model_name_or_path)
    model = FisvlModel.from_backbones(args.vision_backbone, args.text_backbone, args.conv_backbone, **fields)
    return model, FisvlProcessor(FisvlImageProcessor(), AutoTokenizer.from_pretrained(args.text_backbone))


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
    model = output_dir / BEST_FOLDER
    print(f"Model, scores and curves are in {output_dir}. Search your own images with it:")
    print(f"  stmine index IMAGES --model {model} --out my-index")
    print('  stmine search my-index "many planes near a terminal"')


if __name__ == "__main__":
    run_script(main)
