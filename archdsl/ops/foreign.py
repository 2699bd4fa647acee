"""What PyTorch, Keras and papers call operations and parameters, for those who write that from habit."""

from collections.abc import Collection, Mapping
from types import MappingProxyType

from archdsl.diagnostics import did_you_mean

OPERATIONS: Mapping[str, str] = MappingProxyType(
    {
        "batchnormalization": "batchnorm",
        "bn": "batchnorm",
        "cat": "concat",
        "concatenate": "concat",
        "convolution": "conv",
        "convtranspose": "upconv",
        "deconv": "upconv",
        "dense": "linear",
        "fc": "linear",
        "fullyconnected": "linear",
        "globalaveragepool": "global_avgpool",
        "globalaveragepooling": "global_avgpool",
        "globalmaxpooling": "global_maxpool",
        "gn": "groupnorm",
        "identity": "{ }",
        "interpolate": "resize",
        "layerscale": "scale",
        "ln": "layernorm",
        "localresponsenorm": "lrn",
        "maxpooling": "maxpool",
        "averagepooling": "avgpool",
        "multiply": "mul",
        "stochasticdepth": "droppath",
        "sum": "add",
        "swish": "silu",
        "transpose": "permute",
        "view": "reshape",
        "zeropad": "pad",
    }
)

PARAMETERS: Mapping[str, str] = MappingProxyType(
    {
        "ceil_mode": "ceil",
        "count_include_pad": "count_pad",
        "dilation_rate": "dilation",
        "features": "out",
        "filters": "out",
        "kernel_size": "kernel",
        "keep_prob": "p",
        "negative_slope": "slope",
        "num_groups": "groups",
        "out_channels": "out",
        "out_features": "out",
        "output_padding": "output_pad",
        "output_size": "size",
        "padding": "pad",
        "padding_mode": "pad_mode",
        "pool_size": "kernel",
        "prob": "p",
        "rate": "p",
        "scale_factor": "scale",
        "strides": "stride",
        "units": "out",
        "upscale_factor": "r",
        "use_bias": "bias",
        "width": "out",
    }
)

INFERRED = frozenset(("in_channels", "in_features", "input_size", "normalized_shape", "num_channels", "num_features"))


def operation(name: str, known: Collection[str]) -> str | None:
    """What to write for an operation that goes by another name elsewhere (`Conv2d`, `deconv`); None for an unknown."""
    plain = name.removeprefix("nn.").lower()
    if plain in ("dropout1d", "dropout2d", "dropout3d"):
        return "archdsl calls it `dropout_channels`, for every number of axes"
    bare = plain.replace("_", "").rstrip("d").rstrip("123")
    here = next((k for k in known if k.replace("_", "") == bare), None) or OPERATIONS.get(bare)
    if here is None:
        return None
    return f"archdsl calls it `{here}`" + (", for every number of axes" if plain.endswith(("1d", "2d", "3d")) else "")


def parameter(name: str, known: Collection[str]) -> str:
    """What to write for a parameter that an operation does not have; `known` are those that it has."""
    if name in INFERRED:
        return "leave it out: what comes in is inferred"
    if name == "align_corners":
        return "leave it out: the corners are not aligned"
    if name == "inplace":
        return "leave it out: the compiled module sees where a tensor can be overwritten"
    if PARAMETERS.get(name) in known:
        return f"did you mean `{PARAMETERS[name]}`?"
    listed = "it has: " + ", ".join(f"`{k}`" for k in known) if known else "it has none"
    return did_you_mean(name, known) or listed
