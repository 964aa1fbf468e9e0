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

import torch
from harness import OURS, Comparison, Options, Way, drawn_image, engine, flops_of, run_group, without
from PIL import Image

from stmine_hf import Detector
from stmine_hf.detect import Detection, EngineDetector, detect_images, detect_video, draw_detections
from stmine_hf.loading import load_sat

SIZE = (640, 480)
THRESHOLD = 0.3
ENGINE = engine("onnx", "openvino")  # what "auto" finds the fastest for this small network
Scores = dict[str, list[float]]  # of each image or frame


def comparisons(options: Options) -> Iterator[Comparison]:
    network, processor = load_sat(None, "cpu")
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        files = options.images(folder / "images", "coco_small", 16 if options.quick else 128, SIZE)
        yield images_of_a_folder(folder, files, network, processor)
        if not options.quick:
            yield command(options, folder, len(files))
        if (clip := draw_clip(folder / "clip.mp4", 32 if options.quick else 200)) is not None:
            yield video(clip, network, processor)
            if not options.quick:
                yield command_on_video(options, clip)
        yield one_image(network)


def one_at_a_time(image: Image.Image, network: Any, processor: Any) -> tuple[Image.Image, list[float]]:
    """The released demonstration: resize, network, suppression, boxes drawn; of one image, then of the next."""
    with torch.no_grad():
        outputs = network(**processor(images=image, return_tensors="pt"))
    sizes = [(image.height, image.width)]
    (found,) = processor.post_process_object_detection(outputs, threshold=THRESHOLD, target_sizes=sizes)
    rows = zip(found["labels"].tolist(), found["scores"].tolist(), found["boxes"].tolist(), strict=True)
    names = network.config.id2label
    boxes = [Detection(label, names[label], score, tuple(box)) for label, score, box in rows]
    return draw_detections(image, boxes), [box.score for box in boxes]


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


def images_of_a_folder(folder: Path, files: list[Path], network: Any, processor: Any) -> Comparison:
    """In a process that is running: decode, resize, network, suppression, annotated copies."""
    detector = Detector((network, processor), threshold=THRESHOLD, engine=ENGINE)
    made = iter(range(10_000))

    def released() -> Scores:
        out = folder / f"released{next(made)}"
        out.mkdir()
        found: Scores = {}
        for file in files:
            drawn, found[file.name] = one_at_a_time(Image.open(file).convert("RGB"), network, processor)
            drawn.save(out / file.name, quality=92)
        return found

    def ours() -> Scores:
        out = folder / f"ours{next(made)}"
        detect_images(detector, folder / "images", out, progress=False)
        return scores_in(out, "file_name")

    images = [Image.open(file).convert("RGB") for file in files]
    prepared = [processor(images=image, return_tensors="pt")["pixel_values"] for image in images]
    with torch.no_grad():
        outputs = [network(pixel_values=pixels) for pixels in prepared]
    in_engine = EngineDetector(network.fuse(), ENGINE)

    @torch.inference_mode()
    def network_alone() -> None:
        for pixels in prepared:
            in_engine(pixel_values=pixels)

    network_alone()  # opens the engine

    @torch.no_grad()
    def network_as_released() -> None:
        for pixels in prepared:
            network(pixel_values=pixels)

    def suppression() -> None:
        for one in outputs:
            processor.post_process_object_detection(one, threshold=THRESHOLD, target_sizes=[(SIZE[1], SIZE[0])])

    found = [[*answer] for answer in detector(images)]

    def copies() -> None:
        for image, boxes in zip(images, found, strict=True):
            draw_detections(image, boxes).save(folder / "copy.jpg", quality=92)

    shared: dict[str, Way] = {
        "decode": lambda: [Image.open(file).convert("RGB") for file in files],
        "resize and normalize": lambda: [processor(images=image, return_tensors="pt") for image in images],
    }
    rest: dict[str, Way] = {"suppression": suppression, "draw and encode copies": copies}

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
        allowed=1e-3,
        parts={**shared, "network": network_alone, **rest},
        former_parts={**shared, "network": network_as_released, **rest},
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


def video(clip: Path, network: Any, processor: Any) -> Comparison:
    import av

    detector = Detector((network, processor), threshold=THRESHOLD, engine=ENGINE)
    made = iter(range(10_000))

    def released() -> Scores:
        found: Scores = {}
        target = clip.with_name(f"released{next(made)}.mp4")
        with av.open(str(clip)) as source, av.open(str(target), "w") as out:
            stream = out.add_stream("h264", rate=25)
            stream.width, stream.height, stream.pix_fmt = *SIZE, "yuv420p"
            for number, frame in enumerate(source.decode(video=0)):
                drawn, scores = one_at_a_time(frame.to_image(), network, processor)
                found |= {str(number): scores} if scores else {}
                out.mux(stream.encode(av.VideoFrame.from_image(drawn)))
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
        allowed=1e-3,
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
