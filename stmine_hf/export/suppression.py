"""Non-maximum suppression (NMS) inside an exported detector."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torchvision.ops import box_convert, box_iou

from ..errors import StmineError
from .exported import require

LEAST, IOU = "score_threshold", "iou_threshold"  # inputs, each of one number
OUTPUTS = ("selected", "selected_scores", "selected_boxes")
_ROUNDING = 1e-5


def add_suppression(path: Path, most: int) -> None:
    """Add the suppression to an ONNX file with `logits` (B, N, classes) and `pred_boxes` (B, N, 4).

    New inputs: `score_threshold` (1,) and `iou_threshold` (1,). New outputs, for M boxes of all images: `selected`
    (M, 3), the numbers of image, class and point; `selected_scores` (M,); `selected_boxes` (M, 4), as `pred_boxes`.

    Args:
        path: of the file, which is replaced.
        most: boxes of one class and image, at most.
    """
    onnx = require("onnx")
    helper, types = onnx.helper, onnx.TensorProto
    model = onnx.load(path)
    graph = model.graph
    for name, values in (("nms_most", [most]), ("nms_points", [0, 2])):
        graph.initializer.append(onnx.numpy_helper.from_array(np.array(values, dtype=np.int64), name))
    graph.node.extend(
        [
            helper.make_node("Sigmoid", ["logits"], ["nms_scores"]),
            helper.make_node("Transpose", ["nms_scores"], ["nms_by_class"], perm=[0, 2, 1]),
            helper.make_node(
                "NonMaxSuppression", ["pred_boxes", "nms_by_class", "nms_most", IOU, LEAST], ["selected"],
                center_point_box=1,
            ),
            helper.make_node("GatherND", ["nms_by_class", "selected"], ["selected_scores"]),
            helper.make_node("Gather", ["selected", "nms_points"], ["nms_places"], axis=1),
            helper.make_node("GatherND", ["pred_boxes", "nms_places"], ["selected_boxes"]),
        ]
    )  # fmt: skip
    graph.input.extend(helper.make_tensor_value_info(name, types.FLOAT, [1]) for name in (IOU, LEAST))
    shapes = (["found", 3], ["found"], ["found", 4])
    for name, shape in zip(OUTPUTS, shapes, strict=True):
        kind = types.INT64 if name == OUTPUTS[0] else types.FLOAT
        graph.output.append(helper.make_tensor_value_info(name, kind, shape))
    onnx.checker.check_model(model)
    onnx.save(model, path)


def require_suppressed(arrays: dict[str, Any], least: float, iou: float, where: str) -> None:
    """Check the boxes that a network has selected among its own, by what suppression means.

    No two selected ones of a class overlap by more than `iou`, and every other box with a score above `least` overlaps
    by more than that with a selected one of its class whose score is not lower. (Boxes with equal scores, which 8-bit
    integers give, may be taken in any order.)

    Args:
        arrays: all outputs of the network for a batch.
        least: `score_threshold` of the call.
        iou: `iou_threshold` of the call.
        where: name of the format, for the message.

    Raises:
        StmineError: they are not.
    """
    boxes = box_convert(torch.from_numpy(arrays["pred_boxes"]), "cxcywh", "xyxy")
    selected = torch.from_numpy(arrays["selected"]).long()  # (M, 3): image, class, point
    given = torch.from_numpy(arrays["selected_boxes"])
    right = torch.equal(given, torch.from_numpy(arrays["pred_boxes"])[selected[:, 0], selected[:, 2]])
    for image, scores in enumerate(torch.from_numpy(arrays["logits"]).sigmoid()):
        for label in range(scores.shape[1]):
            (point,) = torch.nonzero(scores[:, label] > least + _ROUNDING, as_tuple=True)
            own = selected[(selected[:, 0] == image) & (selected[:, 1] == label), 2]
            overlaps = box_iou(boxes[image, own], boxes[image, own]).fill_diagonal_(0)
            right &= not bool((overlaps > iou + _ROUNDING).any())
            covered = (box_iou(boxes[image, point], boxes[image, own]) > iou - _ROUNDING) & (
                scores[own, label] >= scores[point, label][:, None] - _ROUNDING
            )
            right &= bool((covered.any(dim=1) | torch.isin(point, own)).all())
    if not right:
        raise StmineError(
            f"the suppression in the {where} model selects other boxes than it should: it was not written. Export "
            "without --nms."
        )
