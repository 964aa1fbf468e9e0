"""Train MTTV: is a post, with text and image, fake?

    accelerate launch examples/train_mttv.py --config examples/configs/mttv_toy.yaml
    accelerate launch examples/train_mttv.py --config examples/configs/official_weibo.yaml --data_dir data/weibo
    accelerate launch examples/train_mttv.py --config RUN/config.yaml --resume_from_checkpoint auto

`examples/accelerate/` has settings for one CPU, two processes on it, several GPUs, FSDP, DeepSpeed and several nodes:
`accelerate launch --config_file examples/accelerate/gpus.yaml ...`. The order of the data, augmentation and dropout
follow from `seed`; the joint batch of all processes has the same samples as the batch of one process of that size.

A run may be killed at any time and goes on with `--resume_from_checkpoint auto`, to the same weights; SIGTERM and
Ctrl-C save a checkpoint first.

Any field of the YAML file can be given on the command line too, which wins; `--help` lists them all. `output_dir` gets
`best/` (the model with the best validation metric, ready for `stmine classify --model`), checkpoints to resume from,
`config.yaml` (the settings as resolved), and at the end `results.json` and `curves.png`.
"""

import logging
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table
from transformers import AutoTokenizer, set_seed

from stmine_hf import MttvConfig, MttvForSequenceClassification, MttvProcessor
from stmine_hf.cards.run import RunCard
from stmine_hf.errors import StmineError
from stmine_hf.modeling.mttv.processing_mttv import MttvImageProcessor
from stmine_hf.posts.detectors import load_detector
from stmine_hf.training.adapters import add_adapter
from stmine_hf.training.arguments import parse_arguments, save_arguments
from stmine_hf.training.checkpoints import resume_point
from stmine_hf.training.mttv.arguments import MttvDataArguments, MttvModelArguments, MttvTrainingArguments
from stmine_hf.training.mttv.collator import MttvCollator, Posts, PostStream, keep_modalities, kept_features
from stmine_hf.training.mttv.toy_model import build_toy_mttv
from stmine_hf.training.mttv.trainer import MttvTrainer
from stmine_hf.training.mttv.transforms import build_image_transform
from stmine_hf.training.publishing import publish_best
from stmine_hf.training.rows import load_rows
from stmine_hf.training.script import run_script
from stmine_hf.training.trainer import BEST_FOLDER
from stmine_hf.training.write_up import best_evaluation, plot_curves, write_results


def main() -> None:
    # 1. Settings: one YAML file, the command line on top.
    model_args, data_args, args = parse_arguments((MttvModelArguments, MttvDataArguments, MttvTrainingArguments))
    logging.basicConfig(level=logging.INFO if args.process_index == 0 else logging.ERROR, format="%(message)s")
    output_dir = Path(args.output_dir)
    if args.should_save:
        output_dir.mkdir(parents=True, exist_ok=True)
        save_arguments(output_dir / "config.yaml", model_args, data_args, args)
    set_seed(args.seed)

    # 2. Data.
    train_rows, eval_rows = load_rows("posts", data_args, args, data_args.max_train_posts, data_args.max_eval_posts)

    # 3. Model and processor.
    try:
        model, processor = build_model(model_args, train_rows)
    except (OSError, ValueError) as error:  # nothing there; settings that contradict each other
        raise StmineError(f"Cannot make the model: {' '.join(str(error).split())}") from error
    if model_args.attn_implementation:
        model.set_attn_implementation(model_args.attn_implementation)
    resume = resume_point(args)
    if args.peft:
        model = add_adapter(model, processor, args, model_args.model_name_or_path, resuming=resume is not None)
    model.to(memory_format=torch.channels_last)  # convolutions run up to three times as fast on a CPU

    # 4. Training samples: what of a post is shown, augmentation, regions, tokens.
    if model.config.vision_config is None and data_args.features is None and data_args.modalities != "text":
        logging.info("The model has no visual encoder, and there are no features: it trains on the texts alone.")
        data_args.modalities = "text"
    train_rows = keep_modalities(train_rows, data_args.modalities)
    eval_rows = None if eval_rows is None else keep_modalities(eval_rows, data_args.modalities)
    detector = load_detector(data_args.detector) if data_args.detector else None
    features = None
    if data_args.features and data_args.modalities != "text":
        with args.main_process_first(desc="finding visual features"):
            wanted = [rows for rows in (train_rows, eval_rows) if rows is not None]
            features = kept_features(data_args.features, model, processor, wanted, detector=detector)
    samples: Posts | PostStream
    if data_args.streaming:
        samples = PostStream(
            train_rows, args, data_args.shuffle_buffer, model.config.label2id, data_args.image_dropping
        )
    else:
        samples = Posts(train_rows, model.config.label2id, args.seed, data_args.image_dropping, features)
    transform = build_image_transform(data_args.image_augmentation)
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
    trainer.card = RunCard("mttv", model_args, data_args, args)
    trainer.train(resume_from_checkpoint=resume)

    # 6. Scale the classes by their validation recalls, if asked for, and write up.
    if trainer.is_world_process_zero():
        if eval_rows is None:
            trainer.keep_last()
        scaled = trainer.fit_scaling_factors(args.scaling_tau) if args.scaling_tau else None
        history, metric = trainer.state.log_history, args.metric_for_best_model
        parameters = sum(tensor.numel() for tensor in model.parameters())
        facts = {"parameters": parameters, "unreadable": samples.unreadable, "scaled": scaled}
        write_results(output_dir / "results.json", history, metric, **facts)
        plot_curves(
            output_dir / "curves.png", history, list(dict.fromkeys([metric, "accuracy", "macro_f1"])), "validation"
        )
        print_summary(best_evaluation(history, metric), scaled, output_dir)
        publish_best(output_dir / BEST_FOLDER, args)


def build_model(args: MttvModelArguments, train_rows) -> tuple[MttvForSequenceClassification, MttvProcessor]:
    """From an MTTV folder, from pretrained backbones, or a tiny one from nothing."""
    fields = args.model_config or {}
    if unknown := set(fields) - set(MttvConfig().to_dict()):
        raise StmineError(f"model_config: MttvConfig has no field {', '.join(sorted(unknown))}.")
    labels = train_rows.features["label"].names
    if args.toy_model:
        return build_toy_mttv(train_rows["text"], labels, **fields)
    if args.model_name_or_path:
        model = MttvForSequenceClassification.from_pretrained(args.model_name_or_path, **fields)
        return model.train(), MttvProcessor.from_pretrained(args.model_name_or_path)
    tokenizer = AutoTokenizer.from_pretrained(args.text_backbone)
    fields = {
        "id2label": dict(enumerate(labels)),
        "label2id": {label: index for index, label in enumerate(labels)},
        "cls_token_id": tokenizer.cls_token_id,
        "sep_token_id": tokenizer.sep_token_id,
        **fields,
    }
    model = MttvForSequenceClassification.from_backbones(args.text_backbone, args.vision_backbone, **fields)
    return model, MttvProcessor(MttvImageProcessor(), tokenizer, num_regions=model.config.num_region_tokens)


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
    model = output_dir / BEST_FOLDER
    print(f"Model, scores and curves are in {output_dir}. Judge a post with it:")
    print(f'  stmine classify --text "..." --image photo.jpg --model {model}')


if __name__ == "__main__":
    run_script(main)
