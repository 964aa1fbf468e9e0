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

from stmine_hf.hub import publish_run, require_login
from stmine_hf.training import (
    FisvlDataArguments,
    FisvlModelArguments,
    FisvlTrainingArguments,
    build_fisvl_trainer,
    finish_run,
    run_script,
    start_run,
)


def main() -> None:
    # 1. Settings: one YAML file, the command line on top.
    run = start_run(FisvlModelArguments, FisvlDataArguments, FisvlTrainingArguments)
    args = run.args
    if args.push_to_hub and args.should_save:
        require_login(args.hub_model_id)  # hours before it is needed

    # 2. Data, model, samples and measure: stmine_hf/training/fisvl/build.py has them in their order.
    trainer = build_fisvl_trainer(run)

    # 3. Train, write up, publish.
    run.train(trainer, "fisvl")
    if not trainer.is_world_process_zero():
        return
    finish_run(run, trainer)
    print(f"Model, scores and curves are in {run.output_dir}. Search your own images with it:")
    print(f"stmine index and a folder of yours, with --model {run.best} --out my-index; then:")
    print('  stmine search my-index "many planes near a terminal"')
    if args.push_to_hub or args.push_dry_run:
        publish_run(run.output_dir, args.hub_model_id, private=args.hub_private_repo, dry_run=args.push_dry_run)


if __name__ == "__main__":
    run_script(main)
