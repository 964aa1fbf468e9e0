"""Models for other runtimes: ONNX in three precisions, OpenVINO and ncnn, each checked against PyTorch."""

FORMAT_NAMES = ("onnx", "ncnn", "int8", "openvino", "fp16")  # of SAT
PART_FORMAT_NAMES = ("onnx", "fp16", "int8", "openvino")  # of FISVL and MTTV
