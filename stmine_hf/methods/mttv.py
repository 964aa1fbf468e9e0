"""MTTV: classify a post of text and image as real or fake."""

from __future__ import annotations

from .record import AdapterTargets, Method

MTTV = Method(
    name="mttv",
    title="MTTV",
    description="Tells fake from real posts by text and image: MTTV",
    config="modeling.mttv.configuration_mttv:MttvConfig",
    model="modeling.mttv.modeling_mttv:MttvForSequenceClassification",
    processor="modeling.mttv.processing_mttv:MttvProcessor",
    image_processor="modeling.mttv.processing_mttv:MttvImageProcessor",
    auto_models={
        "AutoModel": "modeling.mttv.modeling_mttv:MttvModel",
        "AutoModelForSequenceClassification": "modeling.mttv.modeling_mttv:MttvForSequenceClassification",
    },
    auto_class="AutoModelForSequenceClassification",
    task="text-classification",
    pipelines={"fake-news-detection": "modeling.mttv.pipeline_mttv:MttvPipeline"},
    rows="posts",
    commands=("classify", "features mttv", "export mttv", "evaluate mttv"),
    command_example='stmine classify --text "..." --image photo.jpg --model ADAPTER',
    usage="""from transformers import pipeline
classifier = pipeline("fake-news-detection", model="{repo}", trust_remote_code=True)
print(classifier({{"text": "what the post says", "image": "image.jpg"}}))  # either may be missing""",
    metrics={"accuracy": "Accuracy", "macro_f1": "Macro F1"},
    class_metrics={"f1": "F1", "precision": "precision", "recall": "recall"},
    score_meaning=(
        "Accuracy is the share of posts whose label is predicted correctly, from 0 to 1. Macro F1 is the mean of the "
        "F1 scores of the labels: a rare label counts as much as a frequent one."
    ),
    default_checkpoint="mttv-lite-weibo",
    learning_only=("train_vision",),
    adapter=AdapterTargets(
        encoders=("mttv.encoder", "mttv.vision_encoder"),
        heads=(("classifier",), ("mttv.global_proj", "mttv.region_proj")),
        rank=8,
    ),
    converter="conversion.mttv:convert_checkpoint",
    evaluator="evaluation.classification:evaluate_posts",
    card="cards.mttv:MttvCard",
    trainer="training.mttv.build:TRAINING",
    repository="hub.mttv_repository:MttvRepository",
    exported="export.mttv:is_exported",
    export_opener="export.mttv:open_mttv",
)
