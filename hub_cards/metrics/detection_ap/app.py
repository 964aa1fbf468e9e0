"""The metric as a page: predictions and references in, scores out, all as JSON."""

import json
from pathlib import Path

import evaluate
import gradio

FOLDER = Path(__file__).parent
EXAMPLE = {
    "predictions": '[{"bbox": [[0, 0, 10, 7]], "category": [0], "score": [0.9]}]',
    "references": '[{"bbox": [[0, 0, 10, 10]], "category": [0], "area": [100], "iscrowd": [false]}]',
}

metric = evaluate.load(str(FOLDER / "detection_ap.py"))


def compute(predictions: str, references: str) -> dict:
    try:
        return metric.compute(predictions=json.loads(predictions), references=json.loads(references))
    except ValueError as error:
        raise gradio.Error(str(error)) from None


demo = gradio.Interface(
    compute,
    [gradio.Code(value, language="json", label=label) for label, value in EXAMPLE.items()],
    gradio.JSON(label="scores"),
    title="detection_ap",
    article=(FOLDER / "README.md").read_text(encoding="utf-8").split("---", 2)[2],
)

if __name__ == "__main__":
    demo.launch()
