"""The worker of the remote-code tests: opens saved folders in a process that cannot import `stmine_hf`.

python remote_code.py REPORT.json first FOLDER HUB_ID SAVED_FROM_FOLDER SAVED_FROM_HUB
python remote_code.py REPORT.json again SAVED_FROM_FOLDER SAVED_FROM_HUB
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).parents[2]))

from bare_process import draw, leave_own_package, own_modules, photograph, refusals


def inputs_of(processor: Any) -> Any:
    from PIL import Image

    image = Image.linear_gradient("L").resize((40, 30))
    return processor(images=image, text=["Many planes.", "a harbour"], return_tensors="pt")


def opened(name: str) -> dict[str, Any]:
    """What each door gives: classes, their home and the scores."""
    import torch
    from transformers import AutoConfig, AutoModel, AutoModelForZeroShotImageClassification, AutoProcessor

    processor = AutoProcessor.from_pretrained(name, trust_remote_code=True)
    found: dict[str, Any] = {
        "config": type(AutoConfig.from_pretrained(name, trust_remote_code=True)).__name__,
        "processor": [type(processor).__name__, type(processor.image_processor).__name__],
    }
    for auto in (AutoModel, AutoModelForZeroShotImageClassification):
        model, info = auto.from_pretrained(name, trust_remote_code=True, output_loading_info=True)
        with torch.no_grad():
            logits = model.eval()(**inputs_of(processor)).logits_per_image
        found[auto.__name__] = {"class": type(model).__name__, "home": type(model).__module__.partition(".")[0]}
        found[auto.__name__] |= {"logits": logits.tolist(), "missing": sorted(info["missing_keys"])}
    return found


def save(name: str, out: str) -> None:
    from transformers import AutoModel, AutoProcessor

    AutoModel.from_pretrained(name, trust_remote_code=True).save_pretrained(out)
    AutoProcessor.from_pretrained(name, trust_remote_code=True).save_pretrained(out)


def refusal(name: str) -> str:
    from transformers import AutoModel

    try:
        AutoModel.from_pretrained(name)
    except ValueError as error:
        return str(error)
    return ""


def classified(name: str) -> dict[str, Any]:
    """The stock pipeline: answers to one image, to several alone and in batches, to photographs, to bad input."""
    from PIL import Image
    from transformers import pipeline

    classify = pipeline("zero-shot-image-classification", model=name, trust_remote_code=True)
    labels = ["planes", "a harbour", "trees"]

    def answers(images: Any, **options: Any) -> Any:
        return classify(images, candidate_labels=labels, **options)

    images = [draw(60, 40), draw(33, 90).convert("L"), draw(8, 8).convert("CMYK"), Image.new("P", (9, 9))]
    return {
        "one": answers(images[0]),
        "alone": [answers(image) for image in images],
        "together": answers(images, batch_size=3),
        "photograph": [answers(path) for path in photograph(".")],
        "refusals": refusals(answers, ["nowhere.jpg", 3, __file__]),
    }


def embedded(name: str) -> dict[str, Any]:
    """The vectors of two images by the stock pipeline, and by the model itself."""
    import torch
    from transformers import AutoModel, AutoProcessor, pipeline

    images = [draw(60, 40), draw(33, 90)]
    embed = pipeline("image-feature-extraction", model=name, trust_remote_code=True)
    processor = AutoProcessor.from_pretrained(name, trust_remote_code=True)
    with torch.no_grad():
        model = AutoModel.from_pretrained(name, trust_remote_code=True).eval()
        own = model.get_image_features(processor(images=images)["pixel_values"]).pooler_output
    return {"pipeline": embed(images, batch_size=2), "own": own.tolist()}


def main(report: str, stage: str, *names: str) -> None:
    leave_own_package()
    found: dict[str, Any] = {}
    if stage == "first":
        folder, hub_id, saved_from_folder, saved_from_hub = names
        found["refusal"] = refusal(folder)
        found["folder"], found["hub"] = opened(folder), opened(hub_id)
        found["pipeline"], found["embeddings"] = classified(folder), embedded(folder)
        save(folder, saved_from_folder)
        save(hub_id, saved_from_hub)
    else:
        found = {name: opened(name) for name in names}
    found["own modules"] = own_modules()
    with open(report, "w") as file:
        json.dump(found, file)


if __name__ == "__main__":
    main(*sys.argv[1:])
