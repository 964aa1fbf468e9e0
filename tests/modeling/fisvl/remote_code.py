"""The worker of the remote-code tests: opens saved folders in a process that cannot import `stmine_hf`.

python remote_code.py REPORT.json first FOLDER HUB_ID SAVED_FROM_FOLDER SAVED_FROM_HUB
python remote_code.py REPORT.json again SAVED_FROM_FOLDER SAVED_FROM_HUB
"""

from __future__ import annotations

import json
import sys
from typing import Any


class Absent:
    """First on `sys.meta_path`: this package is not installed here, however it is installed."""

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> None:
        if name.partition(".")[0] in ("stmine_hf", "modeling"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)


def inputs_of(processor: Any) -> Any:
    from PIL import Image

    picture = Image.linear_gradient("L").resize((40, 30))
    return processor(images=picture, text=["Many planes.", "a harbour"], return_tensors="pt")


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


def classified(name: str) -> list[dict[str, Any]]:
    from PIL import Image
    from transformers import pipeline

    classify = pipeline("zero-shot-image-classification", model=name, trust_remote_code=True)
    return classify(Image.linear_gradient("L"), candidate_labels=["planes", "a harbour", "trees"])


def main(report: str, stage: str, *names: str) -> None:
    sys.meta_path.insert(0, Absent())
    found: dict[str, Any] = {}
    if stage == "first":
        folder, hub_id, saved_from_folder, saved_from_hub = names
        found["refusal"] = refusal(folder)
        found["folder"], found["hub"] = opened(folder), opened(hub_id)
        found["pipeline"] = classified(folder)
        save(folder, saved_from_folder)
        save(hub_id, saved_from_hub)
    else:
        found = {name: opened(name) for name in names}
    found["own modules"] = sorted(name for name in sys.modules if name.partition(".")[0] == "stmine_hf")
    with open(report, "w") as file:
        json.dump(found, file)


if __name__ == "__main__":
    main(*sys.argv[1:])
