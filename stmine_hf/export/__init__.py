"""Models for other runtimes: ONNX, ncnn and 8-bit integers, each checked against PyTorch."""

FORMAT_NAMES = ("onnx", "ncnn", "int8", "openvino")
