"""Models for other runtimes: ONNX, ncnn and 8-bit integers, each checked against PyTorch."""

MANIFEST = "export.json"  # format, settings, and the SHA-256 of each file that is needed; version 0.1 wrote none
FORMAT_NAMES = ("onnx", "ncnn", "int8", "openvino")
