"""The metric as a page: predictions and references in, scores out, all as JSON."""

import json
from pathlib import Path

import evaluate
import gradio

FOLDER = Path(__file__).parent
EXAMPLE = {
    "predictions": "[[2.0, 0.0], [0.0, 1.0]]",
    "references": "[0, 0]",
}

metric = evaluate.load(str(FOLDER / "classification_calibration.py"))


def compute(predictions: str, references: str) -> dict:
    try:
        return metric.compute(predictions=json.loads(predictions), references=json.loads(references))
    except ValueError as error:
        raise gradio.Error(str(error)) from None


demo = gradio.Interface(
    compute,
    [gradio.Code(value, language="json", label=label) for label, value in EXAMPLE.items()],
    gradio.JSON(label="scores"),
    title="classification_calibration",
    article=(FOLDER / "README.md").read_text(encoding="utf-8").split("---", 2)[2],
)

if __name__ == "__main__":
    demo.launch()
