"""SAT: detect hard-to-see objects in images, within the budget of a phone."""

from __future__ import annotations

from .record import AdapterTargets, Method

SAT = Method(
    name="sat",
    title="SAT",
    description="Finds objects in images on a phone-sized budget: SAT, a light detector of the NanoDet family",
    config="modeling.sat.configuration_sat:SatConfig",
    model="modeling.sat.modeling_sat:SatForObjectDetection",
    processor="modeling.sat.image_processing_sat:SatImageProcessor",
    image_processor="modeling.sat.image_processing_sat:SatImageProcessor",
    auto_models={
        "AutoModel": "modeling.sat.modeling_sat:SatModel",
        "AutoModelForObjectDetection": "modeling.sat.modeling_sat:SatForObjectDetection",
    },
    auto_class="AutoModelForObjectDetection",
    task="object-detection",
    rows="boxes",
    commands=("detect", "export sat", "evaluate sat"),
    command_example="stmine detect IMAGES --model ADAPTER --out found",
    usage="""from transformers import pipeline
detect = pipeline("object-detection", model="{repo}", trust_remote_code=True)
print(detect("image.jpg", threshold=0.3))""",
    metrics={"ap": "AP", "ap50": "AP50"},
    class_metrics={"ap": "AP", "ap50": "AP50", "found": "found at 0.4", "threshold": "lower threshold"},
    score_meaning=(
        "AP is COCO's average precision, from 0 to 1: how many objects are found and how many boxes are right, "
        "averaged over classes and over how exactly a box has to fit. AP50 accepts boxes that overlap by half."
    ),
    default_checkpoint="sat-coco-small",
    more_checkpoints=("sat-indiscernible", "sat-aircraft"),
    learning_only=(
        "assigner_*",
        "quality_focal_*",
        "giou_*",
        "distribution_focal_*",
        "skip_batches_without_boxes",
        "class_prior",
        "head_init_std",
        "batch_norm_momentum",
    ),
    adapter=AdapterTargets(
        encoders=("sat.backbone", "sat.neck", "head"),
        heads=(("head.0.predictor", "head.1.predictor", "head.2.predictor"),),
        rank=2,
    ),
    converter="conversion.sat:convert_checkpoint",
    evaluator="evaluation.detection:evaluate_detection",
    card="cards.sat:SatCard",
    trainer="training.sat.build:TRAINING",
    repository="hub.sat_repository:SatRepository",
    exported="export.sat:is_exported",
    export_opener="export.sat:open_exported",
)
