"""FISVL: find remote-sensing images by sentences, and sentences by images."""

from __future__ import annotations

from .record import AdapterTargets, Method

FISVL = Method(
    name="fisvl",
    title="FISVL",
    description="Finds satellite images by sentences and sentences by images: FISVL (Zhou et al., IEEE JSTARS 2024)",
    config="modeling.fisvl.configuration_fisvl:FisvlConfig",
    model="modeling.fisvl.modeling_fisvl:FisvlModel",
    processor="modeling.fisvl.processing_fisvl:FisvlProcessor",
    image_processor="modeling.fisvl.processing_fisvl:FisvlImageProcessor",
    auto_models={
        "AutoModel": "modeling.fisvl.modeling_fisvl:FisvlModel",
        "AutoModelForZeroShotImageClassification": "modeling.fisvl.modeling_fisvl:FisvlModel",
    },
    auto_class="AutoModel",
    task="zero-shot-image-classification",
    rows="captions",
    commands=("index", "search", "export fisvl", "evaluate fisvl"),
    command_example="stmine index IMAGES --model ADAPTER --out my.index",
    usage="""from PIL import Image
from transformers import AutoModel, AutoProcessor
model = AutoModel.from_pretrained("{repo}", trust_remote_code=True)
processor = AutoProcessor.from_pretrained("{repo}", trust_remote_code=True)
inputs = processor(images=Image.open("image.jpg"), text=["a harbour", "a forest"], return_tensors="pt")
print(model(**inputs).logits_per_image.softmax(dim=-1))""",
    metrics={"r_mean": "Mean recall", "txt_r1": "image-to-text R@1", "img_r1": "text-to-image R@1"},
    score_meaning=(
        "Mean recall is the percentage of searches whose right answer is among the first 1, 5 or 10 hits, "
        "averaged over these and over both directions (a caption for its image, an image for its captions)."
    ),
    default_checkpoint="fisvl-lite-rsicd",
    learning_only=(
        "objective",
        "affiliation_*",
        "scene_*",
        "triplet_*",
        "weighted_contrastive_from_epoch",
        "one_centre_per_scene",
        "temperature_init",
        "center_temperature_init",
    ),
    adapter=AdapterTargets(
        encoders=("vision_encoder", "text_encoder"),
        heads=(("vision_proj", "text_proj", "conv_proj", "sensing", "graph", "head_img"),),
        rank=8,
    ),
    converter="conversion.fisvl:convert_checkpoint",
    evaluator="evaluation.retrieval:evaluate_retrieval",
    card="cards.fisvl:FisvlCard",
    trainer="training.fisvl.build:TRAINING",
    repository="hub.fisvl_repository:FisvlRepository",
    exported="export.fisvl:is_exported",
    export_opener="export.fisvl:open_fisvl",
)
