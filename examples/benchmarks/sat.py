"""SAT: a folder of images and a video from files to boxes, and one image through other small detectors.

    python examples/benchmarks/sat.py --quick
    python examples/benchmarks/sat.py --data data --threads 2

`python examples/benchmark_sat.py` compares checkpoints in all runtimes.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterator, Mapping
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np
import torch
from harness import OURS, Comparison, Options, Way, drawn_image, engine, flops_of, run_group, without
from PIL import Image
from torch import Tensor
from torch.nn import functional
from torchvision.ops import batched_nms, box_convert

from stmine_hf import Detector
from stmine_hf.detect import EngineDetector, detect_images, detect_video, draw_detections
from stmine_hf.loading import load_sat
from stmine_hf.modeling.sat.image_processing_sat import SatImageProcessor, place_image
from stmine_hf.modeling.sat.modeling_sat import SatForObjectDetection

try:
    import cv2
except ImportError:
    cv2 = None

SIZE = (640, 480)
THRESHOLD = 0.3
CANDIDATES = 0.05  # least score of a box that the released suppression considers
LIMIT = 0.02  # of scores: OpenCV's warp is one grey level off at some pixels
ENGINE = engine("onnx", "openvino")  # what "auto" finds the fastest for this small network
Scores = dict[str, list[float]]  # of each image or frame


def comparisons(options: Options) -> Iterator[Comparison]:
    network, processor = load_sat(None, "cpu")
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        files = options.images(folder / "images", "coco_small", 16 if options.quick else 128, SIZE)
        if cv2 is not None:
            cv2.setNumThreads(options.threads)
            yield images_of_a_folder(folder, files, network, processor)
        else:
            without("opencv-python", "the released demonstration")
        if not options.quick:
            yield command(options, folder, len(files))
        if (clip := draw_clip(folder / "clip.mp4", 32 if options.quick else 200)) is not None:
            if cv2 is not None:
                yield video(clip, network, processor)
            if not options.quick:
                yield command_on_video(options, clip)
        yield one_image(network)


class Released:
    """The released demonstration, one image after the other: OpenCV's warp, network, suppression, boxes drawn.

    As NanoDet-m's: candidates from a score of 0.05, of which those above the threshold are drawn.
    """

    def __init__(self, network: SatForObjectDetection, processor: SatImageProcessor):
        self.network, self.names = network, network.config.id2label
        self.height, self.width, self.fit = processor.size["height"], processor.size["width"], processor.fit
        self.divisor = processor.size_divisor
        self.mean, self.std = (np.float32(values) for values in (processor.image_mean, processor.image_std))

    def prepare(self, image: np.ndarray) -> tuple[Tensor, np.ndarray]:
        """An image (H, W, 3) in OpenCV's order -> (1, 3, h, w), and where a pixel of it lies there."""
        place = place_image(*image.shape[:2], self.height, self.width, self.fit)
        matrix = np.array([[place.scale_x, 0, place.offset_x], [0, place.scale_y, place.offset_y], [0, 0, 1.0]])
        warped = cv2.warpPerspective(image, matrix, (place.width, place.height))
        normal = (warped.astype(np.float32) / 255 - self.mean) / self.std
        pixels = torch.from_numpy(normal.transpose(2, 0, 1)).unsqueeze(0)
        return functional.pad(pixels, (0, -place.width % self.divisor, 0, -place.height % self.divisor)), matrix

    def suppress(self, outputs: Any, pixels: Tensor, matrix: np.ndarray) -> tuple[np.ndarray, list[float], list[int]]:
        """Boxes xyxy in the image, their scores and labels; the best first."""
        scores, boxes = outputs.logits[0].sigmoid(), outputs.pred_boxes[0]
        point, label = (scores > CANDIDATES).nonzero(as_tuple=True)
        height, width = pixels.shape[2:]
        corners = box_convert(boxes[point] * torch.tensor([width, height, width, height]), "cxcywh", "xyxy")
        kept = batched_nms(corners, scores[point, label], label, 0.6)[:100]
        back = np.linalg.inv(matrix)
        found = corners[kept].numpy() * np.tile(back[[0, 1], [0, 1]], 2) + np.tile(back[:2, 2], 2)
        return found, scores[point, label][kept].tolist(), label[kept].tolist()

    def draw(self, image: np.ndarray, boxes: np.ndarray, scores: list[float], labels: list[int]) -> None:
        font, size = cv2.FONT_HERSHEY_SIMPLEX, 0.5
        for box, score, label in sorted(zip(boxes.tolist(), scores, labels, strict=True), key=lambda row: row[1]):
            if score > THRESHOLD:
                left, top, right, bottom = map(int, box)
                colour, text = (0, 200, 37 * label % 255), f"{self.names[label]}:{100 * score:.1f}%"
                (wide, high), _ = cv2.getTextSize(text, font, size, 1)
                cv2.rectangle(image, (left, top), (right, bottom), colour, 2)
                cv2.rectangle(image, (left, top - high - 1), (left + wide + 1, top), colour, -1)
                cv2.putText(image, text, (left, top - 1), font, size, (0, 0, 0), 1)

    @torch.no_grad()
    def __call__(self, image: np.ndarray) -> list[float]:
        """The scores above the threshold; their boxes are drawn onto the image."""
        pixels, matrix = self.prepare(image)
        boxes, scores, labels = self.suppress(self.network(pixel_values=pixels), pixels, matrix)
        self.draw(image, boxes, scores, labels)
        return [score for score in scores if score > THRESHOLD]


def scores_in(out: Path, key: str) -> Scores:
    found: Scores = {}
    for row in json.loads((out / "detections.json").read_text(encoding="utf-8")):
        found.setdefault(str(row[key]), []).append(row["score"])
    return found


def difference(one: Scores, other: Scores) -> float:
    """Greatest difference of the scores of an image, in their order; a box that only one has counts with its score."""
    worst = 0.0
    for name in one.keys() | other.keys():
        pairs = zip_longest(*(sorted(own.get(name, []), reverse=True) for own in (one, other)), fillvalue=THRESHOLD)
        worst = max([worst, *(abs(a - b) for a, b in pairs)])
    return worst


# ---- images ----


def images_of_a_folder(
    folder: Path, files: list[Path], network: SatForObjectDetection, processor: SatImageProcessor
) -> Comparison:
    """In a process that is running: decode, resize, network, suppression, annotated copies."""
    detector = Detector((network, processor), threshold=THRESHOLD, engine=ENGINE)
    one_by_one = Released(network, processor)
    made = iter(range(10_000))

    def released() -> Scores:
        out = folder / f"released{next(made)}"
        out.mkdir()
        found: Scores = {}
        for file in files:
            image = cv2.imread(str(file))
            found[file.name] = one_by_one(image)
            cv2.imwrite(str(out / file.name), image)
        return found

    def ours() -> Scores:
        out = folder / f"ours{next(made)}"
        detect_images(detector, folder / "images", out, progress=False)
        return scores_in(out, "file_name")

    images = [Image.open(file).convert("RGB") for file in files]
    prepared = [processor(images=image, return_tensors="pt")["pixel_values"] for image in images]
    in_engine = EngineDetector(network.fuse(), ENGINE)
    in_engine(pixel_values=prepared[0])  # opens the engine
    ready = [detector.prepare(image) for image in images]
    begun = [detector.begin([one]) for one in ready]
    found = [*detector(images)]

    @torch.inference_mode()
    def network_alone() -> None:
        for pixels in prepared:
            in_engine(pixel_values=pixels)

    def copies() -> None:
        for image, boxes in zip(images, found, strict=True):
            draw_detections(image, boxes).save(folder / "copy.jpg", quality=92)

    read = [cv2.imread(str(file)) for file in files]
    placed = [one_by_one.prepare(image) for image in read]
    with torch.no_grad():
        outputs = [network(pixel_values=pixels) for pixels, _ in placed]
        boxed = [one_by_one.suppress(one, *place) for one, place in zip(outputs, placed, strict=True)]

    @torch.no_grad()
    def network_as_released() -> None:
        for pixels, _ in placed:
            network(pixel_values=pixels)

    def copies_as_released() -> None:
        for image, boxes in zip(read, boxed, strict=True):
            drawn = image.copy()
            one_by_one.draw(drawn, *boxes)
            cv2.imwrite(str(folder / "copy.jpg"), drawn)

    parts: dict[str, Way] = {
        "decode": lambda: [Image.open(file).convert("RGB") for file in files],
        "resize and normalize": lambda: [processor(images=image, return_tensors="pt") for image in images],
        "network": network_alone,
        "suppression": lambda: [finish() for finish in begun],
        "draw and encode copies": copies,
    }
    former_parts: dict[str, Way] = {
        "decode": lambda: [cv2.imread(str(file)) for file in files],
        "resize and normalize": lambda: [one_by_one.prepare(image) for image in read],
        "network": network_as_released,
        "suppression": lambda: [one_by_one.suppress(one, *place) for one, place in zip(outputs, placed, strict=True)],
        "draw and encode copies": copies_as_released,
    }
    with torch.no_grad():
        flops = sum(flops_of(lambda pixels=pixels: network(pixel_values=pixels)) for pixels in prepared)
    return Comparison(
        work="SAT: a folder of images, files to boxes and copies",
        count=len(files),
        unit="images",
        ways={"released, one at a time": released, OURS: ours},
        target=2,
        difference=difference,
        measured="score",
        allowed=LIMIT,
        parts=parts,
        former_parts=former_parts,
        flops=flops,
        conditions=f"{len(files)} JPEG files, sat-coco-small, threshold {THRESHOLD}, annotated copies written; "
        f"ours in the engine {ENGINE}",
    )


def command(options: Options, folder: Path, count: int) -> Comparison:
    made = iter(range(10_000))

    def run(python: str) -> Scores:
        out = folder / f"command{next(made)}"
        options.command("detect", folder / "images", "--threshold", THRESHOLD, "--out", out, python=python)
        return scores_in(out, "file_name")

    return Comparison(
        work="SAT: stmine detect of a folder",
        count=count,
        unit="images",
        ways=options.commands(run),
        target=2 if options.before else None,
        difference=difference,
        measured="score",
        allowed=1e-3,
        conditions=f"the same {count} files, the whole command with its start",
        rounds=2,
        warm=False,
    )


# ---- video ----


def draw_clip(path: Path, frames: int) -> Path | None:
    """A video of a drawn image that is passed slowly; None without PyAV."""
    try:
        import av
    except ImportError:
        without("av", "the video")
        return None
    image = drawn_image(1, (SIZE[0] + 200, SIZE[1]))
    with av.open(str(path), "w") as container:
        stream = container.add_stream("h264", rate=25)
        stream.width, stream.height, stream.pix_fmt = *SIZE, "yuv420p"
        for number in range(frames):
            left = 200 * number // frames
            container.mux(stream.encode(av.VideoFrame.from_image(image.crop((left, 0, left + SIZE[0], SIZE[1])))))
        container.mux(stream.encode(None))
    return path


def video(clip: Path, network: SatForObjectDetection, processor: SatImageProcessor) -> Comparison:
    import av

    detector = Detector((network, processor), threshold=THRESHOLD, engine=ENGINE)
    one_by_one = Released(network, processor)
    made = iter(range(10_000))

    def released() -> Scores:
        found: Scores = {}
        target = clip.with_name(f"released{next(made)}.mp4")
        with av.open(str(clip)) as source, av.open(str(target), "w") as out:
            stream = out.add_stream("h264", rate=25)
            stream.width, stream.height, stream.pix_fmt = *SIZE, "yuv420p"
            for number, frame in enumerate(source.decode(video=0)):
                image = frame.to_ndarray(format="bgr24")
                scores = one_by_one(image)
                found |= {str(number): scores} if scores else {}
                out.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="bgr24")))
            out.mux(stream.encode(None))
        return found

    def ours() -> Scores:
        out = clip.with_name(f"video{next(made)}")
        detect_video(detector, clip, out, progress=False)
        return scores_in(out, "image_id")  # the number of the frame

    with av.open(str(clip)) as source:
        frames = sum(1 for _ in source.decode(video=0))
    return Comparison(
        work="SAT: a video, file to boxes and annotated video",
        count=frames,
        unit="frames",
        ways={"released, frame by frame": released, OURS: ours},
        target=2,
        difference=difference,
        measured="score",
        allowed=LIMIT,
        conditions=f"{frames} frames of {SIZE[0]} x {SIZE[1]}, H.264 read and written; ours in the engine {ENGINE}",
        rounds=2,
    )


def command_on_video(options: Options, clip: Path) -> Comparison:
    made = iter(range(10_000))

    def run(python: str) -> Scores:
        out = clip.with_name(f"command_video{next(made)}")
        options.command("detect", clip, "--threshold", THRESHOLD, "--out", out, python=python)
        return scores_in(out, "image_id")

    return Comparison(
        work="SAT: stmine detect of a video",
        count=1,
        unit="video",
        ways=options.commands(run),
        target=2 if options.before else None,
        difference=difference,
        measured="score",
        allowed=1e-3,
        conditions="the same video, the whole command with its start",
        rounds=2,
        warm=False,
    )


# ---- other detectors ----


def one_image(network: Any) -> Comparison:
    """One prepared input to the outputs of the network, batches of one."""
    pixels = torch.rand(1, 3, 320, 320)

    def by(module: Any, given: Any) -> Callable[[], Any]:
        @torch.inference_mode()
        def run() -> Any:
            return module(given)

        return run

    return Comparison(
        work="one image of 320 x 320 through small detectors",
        count=1,
        unit="image",
        ways={OURS: by(network.fuse().to(memory_format=torch.channels_last), pixels)},
        others={name: by(module, given) for name, (module, given) in other_detectors(pixels).items()},
        conditions="float32 in PyTorch, random weights; ours is sat-coco-small (0.84 M parameters), SSDLite320 has "
        "MobileNetV3-Large (3.4 M) and suppression within, YOLOS-Ti (6.5 M) is the smallest detector of transformers",
    )


def other_detectors(pixels: torch.Tensor) -> Mapping[str, tuple[Any, Any]]:
    from torchvision.models.detection import ssdlite320_mobilenet_v3_large
    from transformers import YolosConfig, YolosForObjectDetection

    ssdlite = ssdlite320_mobilenet_v3_large(weights=None, weights_backbone=None).eval()
    tiny = YolosConfig(
        hidden_size=192, num_hidden_layers=12, num_attention_heads=3, intermediate_size=768, image_size=[320, 320]
    )
    return {
        "SSDLite320, torchvision": (ssdlite, [pixels[0]]),
        "YOLOS-Ti, transformers": (YolosForObjectDetection(tiny).eval(), pixels),
    }


if __name__ == "__main__":
    run_group("sat", comparisons, __doc__)
