"""What code of a published model may import, call and name: all that is not listed here is refused.

A model's code computes on tensors, images and text. It needs no files, programs, connections, imports by name or
evaluation of strings, and none of these can be reached by the names below.
"""

from __future__ import annotations

import re
from functools import cache
from importlib import import_module
from types import ModuleType

PACKAGES = ("torch", "torchvision", "transformers", "timm", "PIL", "numpy", "safetensors")

_ANY = r"[A-Za-z]\w*"
_CLASS = r"[A-Z]\w*"
_TRANSFORMERS_CLASS = (
    r"(Auto\w*|PreTrained(Model|Config)|PretrainedConfig|ProcessorMixin|BatchFeature|BatchEncoding|Pipeline"
    r"|[A-Z]\w*(Config|Model|Output\w*|Processor\w*|Tokenizer|Encoder|Decoder|Layer|Embeddings|Backbone)"
    r"|[A-Z]\w*For[A-Z]\w*)"
)
# Module -> what may be used of it, as a regular expression of whole names.
MODULES: dict[str, str] = {
    "__future__": _ANY,
    "abc": "ABC|ABCMeta|abstractmethod",
    "base64": "b64encode|b64decode",
    "bisect": "bisect\\w*|insort\\w*",
    "collections": "Counter|OrderedDict|defaultdict|deque",
    "collections.abc": _CLASS,
    "contextlib": "contextmanager|nullcontext|suppress",
    "copy": "copy|deepcopy",
    "dataclasses": "asdict|dataclass|field|fields|is_dataclass|replace|InitVar|KW_ONLY",
    "difflib": "get_close_matches",
    "enum": "Enum|IntEnum|StrEnum|IntFlag|Flag|auto|unique",
    "functools": "cache|cached_property|lru_cache|partial",
    "heapq": "heap\\w+|nlargest|nsmallest|merge",
    "html": "escape|unescape",
    "inspect": "signature",
    "io": "BytesIO|StringIO",
    "itertools": _ANY,
    "json": "dumps|loads|JSONDecodeError",
    "logging": "getLogger|Logger|DEBUG|INFO|WARNING|ERROR",
    "math": _ANY,
    "numbers": _CLASS,
    "operator": "add|sub|mul|truediv|floordiv|mod|neg|eq|ne|lt|le|gt|ge|itemgetter|and_|or_|not_",
    "pathlib": "PurePath|PurePosixPath",
    "random": "Random|random|randint|uniform|choice|sample|shuffle|gauss|seed",
    "re": "compile|match|fullmatch|search|sub|split|findall|finditer|escape|Pattern|Match|IGNORECASE|DOTALL|MULTILINE",
    "statistics": "mean|median|fmean|stdev|pstdev|quantiles|mode",
    "string": "ascii_\\w+|digits|punctuation|whitespace|printable",
    "time": "perf_counter|monotonic|time",
    "typing": "(?!ForwardRef)[A-Z]\\w*|cast|overload|final|runtime_checkable|no_type_check",
    "unicodedata": _ANY,
    "warnings": "warn|catch_warnings|simplefilter|filterwarnings",
    "numpy": (
        "abs|absolute|all|allclose|any|arange|arccos|arcsin|arctan|arctan2|argmax|argmin|argsort|array|array_equal"
        "|asarray|ascontiguousarray|bool_|broadcast_to|ceil|clip|concatenate|cos|cross|cumsum|degrees|diag|diff|dot"
        "|einsum|empty|empty_like|exp|expand_dims|eye|flip|float16|float32|float64|floating|floor|full|full_like"
        "|hstack|inf|int8|int16|int32|int64|integer|isfinite|isinf|isnan|isscalar|issubdtype|linspace|log|log2|log10"
        "|logical_\\w+|matmul|max|maximum|mean|median|meshgrid|min|minimum|moveaxis|nan|nan_to_num|ndarray|ndim|newaxis"
        "|nonzero|number|ones|ones_like|pad|percentile|pi|prod|quantile|radians|ravel|repeat|reshape|rint|roll|round"
        "|searchsorted|shape|sign|sin|sort|split|sqrt|squeeze|stack|std|sum|swapaxes|take|tan|tanh|tile|transpose|tril"
        "|triu|uint8|uint16|uint32|uint64|unique|unravel_index|var|vstack|where|zeros|zeros_like"
    ),
    "PIL": "",
    "PIL.Image": (
        "Image|Resampling|Transpose|Transform|DecompressionBombError|UnidentifiedImageError|alpha_composite|blend"
        "|composite|fromarray|merge|new|LANCZOS|BICUBIC|BILINEAR|NEAREST"
    ),
    "PIL.ImageDraw": "Draw|ImageDraw",
    "PIL.ImageOps": "exif_transpose|autocontrast|contain|cover|crop|equalize|expand|fit|flip|invert|mirror|pad",
    "PIL.ImageFilter": _CLASS,
    "PIL.ImageEnhance": _CLASS,
    "PIL.ExifTags": _CLASS,
    "torch": (
        "Tensor|Size|Generator|FloatTensor|LongTensor|BoolTensor|IntTensor|abs|acos|add|addmm|all|allclose|amax|amin|any"
        "|arange|argmax|argmin|argsort|as_tensor|asin|atan|atan2|autocast|baddbmm|bernoulli|bfloat16|bincount|bmm|bool"
        "|broadcast_tensors|broadcast_to|bucketize|cat|cdist|ceil|channel_shuffle|chunk|clamp|clip|clone|complex64|concat"
        "|contiguous_format|conv1d|conv2d|cos|cosh|cross|cumprod|cumsum|cov|device|diag|diff|div|dot|double|dtype|einsum"
        "|empty|empty_like|enable_grad|eq|equal|erf|exp|expm1|eye|finfo|flatten|flip|float|float16|float32|float64"
        "|floor|floor_divide|fmod|from_numpy|full|full_like|gather|ge|get_default_dtype|gt|half|histc|iinfo|index_select"
        "|inf|inference_mode|int|int8|int16|int32|int64|inverse|is_floating_point|is_grad_enabled|is_tensor|isclose"
        "|isfinite|isin|isinf|isnan|kthvalue|layer_norm|le|lerp|linspace|log|log10|log1p|log2|log_softmax|logaddexp"
        "|logical_\\w+|logspace|logsumexp|long|lt|manual_seed|masked_select|matmul|max|maximum|mean|median|meshgrid|min"
        "|minimum|mm|movedim|mul|multinomial|nan|nan_to_num|narrow|ne|neg|nn|no_grad|nonzero|norm|normal|ones|ones_like"
        "|outer|permute|pi|pow|prod|promote_types|quantile|rand|rand_like|randint|randn|randn_like|randperm"
        "|repeat_interleave|reshape|roll|round|rsqrt|scalar_tensor|scatter|searchsorted|set_grad_enabled|sigmoid|sign"
        "|sin|sinh|softmax|sort|split|sqrt|square|squeeze|stack|std|sub|sum|swapaxes|take|take_along_dim|tan|tanh|tensor"
        "|tensordot|tile|topk|trace|transpose|tril|triu|trunc|uint8|unbind|unflatten|unique|unique_consecutive|unsqueeze"
        "|var|var_mean|vmap|vstack|hstack|where|zeros|zeros_like|channels_last|preserve_format|strided"
    ),
    "torch.amp": "autocast",
    "torch.autograd": "Function|grad",
    "torch.cuda": "is_available|is_bf16_supported",
    "torch.distributed": (
        "all_gather|all_reduce|broadcast|get_rank|get_world_size|is_available|is_initialized|ReduceOp|barrier"
    ),
    "torch.fft": "[a-z]*fft\\w*",
    "torch.linalg": "[a-z]\\w*",
    "torch.nn": _CLASS,
    "torch.nn.functional": (
        "adaptive_\\w+|avg_pool\\w+|batch_norm|binary_cross_entropy\\w*|conv\\w+|cosine_similarity|cross_entropy"
        "|dropout\\w*|elu|embedding\\w*|fold|gelu|glu|grid_sample|affine_grid|group_norm|hardsigmoid|hardswish|hardtanh"
        "|huber_loss|instance_norm|interpolate|kl_div|l1_loss|layer_norm|leaky_relu|linear|log_softmax|logsigmoid"
        "|max_pool\\w+|mish|mse_loss|nll_loss|normalize|one_hot|pad|pairwise_distance|pixel_shuffle|pixel_unshuffle|prelu"
        "|relu|relu6|rms_norm|scaled_dot_product_attention|selu|sigmoid|silu|smooth_l1_loss|softmax|softmin|softplus"
        "|softsign|tanh|triplet_margin_loss|unfold"
    ),
    "torch.nn.init": "[a-z]\\w*_",
    "torch.nn.utils": "fuse_conv_bn_eval|clip_grad_norm_|clip_grad_value_|parameters_to_vector",
    "torch.nn.utils.rnn": "pad_sequence|pack_padded_sequence|pad_packed_sequence",
    "torch.nn.utils.parametrizations": "weight_norm|spectral_norm|orthogonal",
    "torch.utils.checkpoint": "checkpoint",
    "torchvision.ops": _ANY,
    "torchvision.transforms": "InterpolationMode|Compose|Normalize|Resize|ToTensor|CenterCrop",
    "torchvision.transforms.functional": "pad|resize|crop|center_crop|normalize|to_tensor|hflip|vflip|rotate",
    "torchvision.transforms.v2": "Compose|Normalize|Resize|CenterCrop|ToDtype|ToImage|InterpolationMode",
    "torchvision.transforms.v2.functional": "pad|resize|crop|center_crop|normalize|to_dtype|to_image|rotate",
    "timm.layers": _ANY,
    "transformers": _TRANSFORMERS_CLASS,
    "transformers.activations": "ACT2FN|ACT2CLS",
    "transformers.image_processing_backends": _CLASS,
    "transformers.image_processing_utils": "BaseImageProcessor|BatchFeature|get_size_dict",
    "transformers.image_processing_utils_fast": "BaseImageProcessorFast|BatchFeature",
    "transformers.image_transforms": "[a-z]\\w*",
    "transformers.image_utils": (
        "[A-Z]\\w*|infer_channel_dimension_format|make_list_of_images|make_flat_list_of_images|to_numpy_array|valid_images"
        "|validate_kwargs|validate_preprocess_arguments|get_image_size|is_valid_image"
    ),
    "transformers.initialization": "[a-z]\\w*_",
    "transformers.modeling_outputs": "[A-Z]\\w*Output\\w*",
    "transformers.modeling_utils": "PreTrainedModel|ALL_ATTENTION_FUNCTIONS",
    "transformers.configuration_utils": "PreTrainedConfig|PretrainedConfig",
    "transformers.processing_utils": "[A-Z]\\w*",
    "transformers.tokenization_utils_base": "BatchEncoding|PreTokenizedInput|TextInput|PaddingStrategy",
    "transformers.utils": "ModelOutput|TensorType",
    "transformers.utils.generic": "ModelOutput|TensorType",
    "safetensors": "",
}  # fmt: skip

BUILTINS = {
    "ArithmeticError", "AssertionError", "AttributeError", "BaseException", "DeprecationWarning", "Ellipsis",
    "Exception", "False", "FileNotFoundError", "FloatingPointError", "FutureWarning", "ImportError", "IndexError",
    "KeyError", "LookupError", "MemoryError", "NameError", "None", "NotImplemented", "NotImplementedError", "OSError",
    "OverflowError", "RuntimeError", "RuntimeWarning", "StopIteration", "SyntaxError", "True", "TypeError",
    "UnicodeDecodeError", "UserWarning", "ValueError", "Warning", "ZeroDivisionError", "abs", "all", "any", "ascii",
    "bin", "bool", "bytearray", "bytes", "callable", "chr", "classmethod", "complex", "dict", "divmod", "enumerate",
    "filter", "float", "format", "frozenset", "hash", "hex", "id", "int", "isinstance", "issubclass", "iter", "len",
    "list", "map", "max", "min", "next", "object", "oct", "ord", "pow", "print", "property", "range", "repr",
    "reversed", "round", "set", "slice", "sorted", "staticmethod", "str", "sum", "super", "tuple", "type", "zip",
}  # fmt: skip
# Of the builtins that are not listed, those whose names are used for arguments and do no harm.
NAMES_OF_ARGUMENTS = {"copyright", "credits", "dir", "exit", "help", "input", "license", "memoryview", "quit"}
DUNDERS = {
    "__init__", "__name__", "__module__", "__call__", "__len__", "__getitem__", "__iter__", "__post_init__",
    "__all__",
}  # fmt: skip

# Attributes of outputs, configs and processors of transformers, besides those of plain types and tensors.
_COMMON = {
    "T", "weight", "attentions", "auto_map", "custom_pipelines", "batch_norm", "bias", "bos_token_id", "boxes",
    "channels", "filename",
    "classifier", "cls_token_id", "config", "convert", "crop", "cross_attentions", "data", "decoder", "embeddings",
    "encoder", "eos_token_id", "feature_maps", "for_model", "from_config", "from_numpy", "get_input_embeddings",
    "height", "hidden_act", "hidden_dropout_prob", "hidden_size", "hidden_sizes", "hidden_states", "id2label",
    "image_mean", "image_processor", "image_size", "image_std", "in_channels", "in_features", "info", "warning",
    "warning_once", "debug", "error", "initializer_range", "intermediate_size", "label2id", "last_hidden_state",
    "layer_norm_eps", "logits", "loss", "loss_dict", "loss_function", "mask_token_id", "max_position_embeddings",
    "model_type", "module", "name_or_path", "num_attention_heads", "num_channels", "num_hidden_layers",
    "num_labels", "out_channels", "out_features", "pad_token_id", "parameters", "patch_size", "pixel_values",
    "pooler", "pooler_output", "post_init", "prediction", "problem_type", "save_for_backward", "saved_tensors",
    "sep_token_id", "set_input_embeddings", "size", "text_config", "tie_weights", "to_dict", "to_diff_dict",
    "to_tuple", "tokenizer", "token_type_embeddings", "training", "type_vocab_size", "use_return_dict",
    "vision_config", "vocab_size", "width", "_attn_implementation", "_auto_class", "_init_weights",
    "_tied_weights_keys", "task_name", "mark_non_differentiable", "process_image", "rescale_and_normalize",
    "do_resize", "n_frames", "apply",
}  # fmt: skip
# Of tensors, modules, arrays and images: what reads or writes files, loads, starts programs or reaches memory.
REFUSED = {
    "ctypes", "compile", "data_ptr", "dump", "dumps", "exec_module", "fp", "from_file", "get_submodule",
    "getfield", "load", "map2_", "map_", "module_load", "open", "save", "set_", "setfield", "share_memory",
    "share_memory_", "show", "storage", "storage_type", "tobitmap", "tofile", "toqimage", "toqpixmap",
    "typed_storage", "untyped_storage", "mro", "from_pretrained", "push_to_hub", "save_pretrained", "load_adapter",
    "run", "system", "popen", "write", "read", "gi_frame", "gi_code", "gi_yieldfrom", "cr_frame", "cr_code",
    "cr_await", "ag_frame", "ag_code", "f_back", "f_builtins", "f_code", "f_globals", "f_locals", "tb_frame",
    "tb_next", "handlers", "manager", "stream", "loader", "find_class", "_module", "sys", "os", "posix", "nt",
    "builtins", "importlib", "subprocess", "socket", "shutil", "pickle", "runpy", "linecache", "_getframe",
    "posix_spawn", "posix_spawnp", "fork", "forkpty", "exec", "get_type_hints", "load_library",
    *(f"{kind}{end}" for kind in ("exec", "spawn") for end in ("l", "le", "lp", "lpe", "v", "ve", "vp", "vpe")),
}  # fmt: skip
# What a class may define of Python's own methods. By others (`__match_args__`, `__reduce_ex__`, `__getattr__`) the
# interpreter and the standard library read attributes, and call, by names that stand nowhere in the code.
METHODS = {
    "__init__", "__call__", "__len__", "__getitem__", "__setitem__", "__iter__", "__next__", "__contains__",
    "__post_init__", "__repr__", "__str__", "__eq__", "__ne__", "__lt__", "__le__", "__gt__", "__ge__", "__hash__",
    "__bool__", "__int__", "__float__", "__enter__", "__exit__", "__add__", "__radd__", "__sub__", "__rsub__",
    "__mul__", "__rmul__", "__truediv__", "__matmul__", "__neg__", "__and__", "__or__",
}  # fmt: skip


@cache
def attributes() -> frozenset[str]:
    """Names of attributes that may be read of any value."""
    import inspect
    import re as regular

    import numpy
    import torch
    from PIL import Image, ImageDraw

    kinds = [str, bytes, list, dict, set, tuple, int, float, complex, slice, Exception]
    kinds += [regular.Pattern, regular.Match, inspect.Signature, numpy.ndarray, torch.Tensor, torch.Size, torch.dtype]
    kinds += [torch.device, torch.Generator, torch.finfo, torch.iinfo, torch.nn.Module, torch.nn.ModuleList]
    kinds += [torch.nn.ModuleDict, torch.nn.Sequential, Image.Image, Image.Exif, ImageDraw.ImageDraw]
    names = {name for kind in kinds for name in dir(kind) if not name.startswith("_")}
    return frozenset((names | _COMMON) - REFUSED)


@cache
def inherited() -> frozenset[str]:
    """Names that classes of transformers pass on: a model's own class cannot allow itself these by defining them."""
    import torch
    import transformers
    from transformers.image_processing_utils import BaseImageProcessor

    classes = [transformers.PreTrainedModel, transformers.PreTrainedConfig, transformers.ProcessorMixin]
    classes += [transformers.Pipeline, transformers.PreTrainedTokenizerBase, transformers.AutoModel]
    classes += [transformers.AutoConfig, transformers.AutoProcessor, transformers.BatchFeature, BaseImageProcessor]
    classes += [torch.nn.Module, torch.Tensor]
    return frozenset(name for kind in classes for name in dir(kind)) | REFUSED


def is_allowed(path: str) -> bool:
    """Whether a dotted name, such as "torch.nn.functional.relu", may be used."""
    module, _, name = path.rpartition(".")
    if path in MODULES:
        return True
    return module in MODULES and bool(re.fullmatch(MODULES[module], name)) and _is_of_its_package(module, name)


def _is_of_its_package(module: str, name: str) -> bool:
    """Whether a module has not itself imported what goes by a name there, as `transformers` has `pathlib.Path`."""
    if module.partition(".")[0] not in PACKAGES:
        return True
    try:
        found = getattr(import_module(module), name, None)
    except ImportError:
        return True  # another version's: it does not run here, either
    origin = getattr(found, "__module__", None)
    return not isinstance(found, ModuleType) and (origin is None or str(origin).partition(".")[0] in PACKAGES)
