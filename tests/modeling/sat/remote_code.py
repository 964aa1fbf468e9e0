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


def image() -> Any:
    from PIL import Image

    return Image.linear_gradient("L").resize((60, 40))


def opened(name: str) -> dict[str, Any]:
    """What each door gives: classes, their home and the numbers."""
    import torch
    from transformers import AutoConfig, AutoImageProcessor, AutoModel, AutoModelForObjectDetection

    processor = AutoImageProcessor.from_pretrained(name, trust_remote_code=True)
    inputs = processor(image(), return_tensors="pt")
    found: dict[str, Any] = {
        "config": type(AutoConfig.from_pretrained(name, trust_remote_code=True)).__name__,
        "processor": type(processor).__name__,
    }
    for auto in (AutoModel, AutoModelForObjectDetection):
        model, info = auto.from_pretrained(name, trust_remote_code=True, output_loading_info=True)
        with torch.no_grad():
            outputs = model.eval()(**inputs)
        found[auto.__name__] = {"class": type(model).__name__, "home": type(model).__module__.partition(".")[0]}
        found[auto.__name__] |= {"missing": sorted(info["missing_keys"])}
        found[auto.__name__]["numbers"] = outputs["last_hidden_state" if auto is AutoModel else "logits"].tolist()
    return found


def save(name: str, out: str) -> None:
    from transformers import AutoImageProcessor, AutoModelForObjectDetection

    AutoModelForObjectDetection.from_pretrained(name, trust_remote_code=True).save_pretrained(out)
    AutoImageProcessor.from_pretrained(name, trust_remote_code=True).save_pretrained(out)


def refusal(name: str) -> str:
    from transformers import AutoModelForObjectDetection

    try:
        AutoModelForObjectDetection.from_pretrained(name)
    except ValueError as error:
        return str(error)
    return ""


def detected(name: str) -> dict[str, Any]:
    """The stock pipeline: images of two shapes, alone and in batches, photographs, bad input."""
    from PIL import Image
    from transformers import pipeline

    detect = pipeline("object-detection", model=name, trust_remote_code=True)

    def answers(images: Any, **options: Any) -> Any:
        return detect(images, threshold=0.0, **options)

    shades = [image(), draw(60, 40), draw(60, 40).convert("L"), draw(60, 40).convert("CMYK")]
    lying, upright = photograph(".")
    return {
        "shapes": answers([image(), image().resize((33, 90))]),
        "alone": [answers(one) for one in shades],
        "together": answers(shades, batch_size=3),
        "photograph": [answers(one) for one in (lying, Image.open(lying), upright)],
        "refusals": refusals(answers, ["nowhere.jpg", 3, __file__]),
    }


def trained(name: str) -> float:
    """The loss of one training step."""
    import torch
    from transformers import AutoModelForObjectDetection

    model = AutoModelForObjectDetection.from_pretrained(name, trust_remote_code=True).train()
    labels = [{"boxes": torch.tensor([[0.5, 0.5, 0.5, 0.5]]), "class_labels": torch.tensor([1])}]
    loss = model(pixel_values=torch.zeros(1, 3, 64, 64), labels=labels).loss
    loss.backward()
    return loss.item()


def main(report: str, stage: str, *names: str) -> None:
    leave_own_package()
    found: dict[str, Any] = {}
    if stage == "first":
        folder, hub_id, saved_from_folder, saved_from_hub = names
        found["refusal"] = refusal(folder)
        found["folder"], found["hub"] = opened(folder), opened(hub_id)
        found["pipeline"], found["loss"] = detected(folder), trained(folder)
        save(folder, saved_from_folder)
        save(hub_id, saved_from_hub)
    else:
        found = {name: opened(name) for name in names}
    found["own modules"] = own_modules()
    with open(report, "w") as file:
        json.dump(found, file)


if __name__ == "__main__":
    main(*sys.argv[1:])
