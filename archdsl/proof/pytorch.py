"""Facts of PyTorch on which a proof relies, checked against PyTorch by tests/proof/test_pytorch.py."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias

Shapes: TypeAlias = dict[str, tuple[int, ...]]

REQUIRED = object()
"""Marks an argument without a default."""

_WINDOW = "in_channels out_channels kernel_size stride=1 padding=0"
_CONV = f"{_WINDOW} dilation=1 groups=1 bias=True padding_mode='zeros'"
_UPCONV = f"{_WINDOW} output_padding=0 groups=1 bias=True dilation=1 padding_mode='zeros'"
_MAXPOOL = "kernel_size stride=None padding=0 dilation=1 return_indices=False ceil_mode=False"
_AVGPOOL = "kernel_size stride=None padding=0 ceil_mode=False count_include_pad=True"

_SIGNATURES = {
    "Conv": _CONV,
    "ConvTranspose": _UPCONV,
    "BatchNorm": "num_features eps=1e-5 momentum=0.1 affine=True track_running_stats=True",
    "InstanceNorm": "num_features eps=1e-5 momentum=0.1 affine=False track_running_stats=False",
    "MaxPool": _MAXPOOL,
    "AvgPool": _AVGPOOL,
    "AdaptiveAvgPool": "output_size",
    "AdaptiveMaxPool": "output_size return_indices=False",
    "Dropout": "p=0.5 inplace=False",
    "ZeroPad": "padding",
    "ReplicationPad": "padding",
    "ReflectionPad": "padding",
    "CircularPad": "padding",
}
"""Classes for one, two and three spatial axes."""

EXTENDED = {"ReLU6": "Hardtanh"}
"""Layers that extend others."""
_OTHERS = {
    "Linear": "in_features out_features bias=True",
    "GroupNorm": "num_groups num_channels eps=1e-5 affine=True",
    "LayerNorm": "normalized_shape eps=1e-5 elementwise_affine=True bias=True",
    "RMSNorm": "normalized_shape eps=None elementwise_affine=True",
    "MultiheadAttention": "embed_dim num_heads dropout=0.0 bias=True add_bias_kv=False add_zero_attn=False kdim=None "
    "vdim=None batch_first=False",
    "LocalResponseNorm": "size alpha=1e-4 beta=0.75 k=1.0",
    "Dropout": "p=0.5 inplace=False",
    "ReLU": "inplace=False",
    "ReLU6": "inplace=False",
    "LeakyReLU": "negative_slope=0.01 inplace=False",
    "PReLU": "num_parameters=1 init=0.25",
    "ELU": "alpha=1.0 inplace=False",
    "SELU": "inplace=False",
    "GELU": "approximate='none'",
    "SiLU": "inplace=False",
    "Mish": "inplace=False",
    "Sigmoid": "",
    "Hardsigmoid": "inplace=False",
    "Hardswish": "inplace=False",
    "Tanh": "",
    "Softplus": "beta=1.0 threshold=20.0",
    "Hardtanh": "min_val=-1.0 max_val=1.0 inplace=False min_value=None max_value=None",
    "Softmax": "dim=None",
    "LogSoftmax": "dim=None",
    "Flatten": "start_dim=1 end_dim=-1",
    "Identity": "",
    "Upsample": "size=None scale_factor=None mode='nearest' align_corners=None recompute_scale_factor=None",
    "PixelShuffle": "upscale_factor",
    "PixelUnshuffle": "downscale_factor",
    "ChannelShuffle": "groups",
}


def _parsed(text: str) -> dict[str, object]:
    """The arguments of a signature with their defaults."""
    words = {"None": None, "True": True, "False": False}
    found: dict[str, object] = {}
    for part in text.split():
        name, equals, default = part.partition("=")
        if not equals:
            found[name] = REQUIRED
        elif default in words:
            found[name] = words[default]
        elif default.startswith("'"):
            found[name] = default.strip("'")
        else:
            found[name] = float(default) if set(default) & set(".e") else int(default)
    return found


SIGNATURES: Mapping[str, Mapping[str, object]] = {
    **{f"{name}{rank}d": _parsed(text) for name, text in _SIGNATURES.items() for rank in (1, 2, 3)},
    **{name: _parsed(text) for name, text in _OTHERS.items()},
}
"""The arguments of torch.nn's constructors, except `device` and `dtype`, with their defaults."""

WEIGHTY = (
    "Conv",
    "Linear",
    "BatchNorm",
    "InstanceNorm",
    "GroupNorm",
    "LayerNorm",
    "RMSNorm",
    "PReLU",
    "MultiheadAttention",
)
"""The prefixes of the classes that take `device` and `dtype`."""

INNER: Mapping[str, Mapping[str, str]] = {"MultiheadAttention": {"out_proj": "Linear"}}
"""The members of layers that are layers themselves, with the classes that they are or extend."""

_NAMES = (
    "T_destination add_module append apply bfloat16 buffers call_super_init children compile cpu cuda double "
    "dump_patches eval extend extra_repr float forward get_buffer get_extra_state get_parameter get_submodule half "
    "insert ipu load_state_dict modules mtia named_buffers named_children named_modules named_parameters parameters "
    "pop register_backward_hook register_buffer register_forward_hook register_forward_pre_hook "
    "register_full_backward_hook register_full_backward_pre_hook register_load_state_dict_post_hook "
    "register_load_state_dict_pre_hook register_module register_parameter register_state_dict_post_hook "
    "register_state_dict_pre_hook requires_grad_ set_extra_state set_submodule share_memory state_dict to to_empty "
    "train training type xpu zero_grad _apply _backward_hooks _backward_pre_hooks _buffers _call_impl "
    "_compiled_call_impl _forward_hooks _forward_hooks_always_called _forward_hooks_with_kwargs _forward_pre_hooks "
    "_forward_pre_hooks_with_kwargs _get_backward_hooks _get_backward_pre_hooks _get_item_by_idx _get_name "
    "_is_full_backward_hook _load_from_state_dict _load_state_dict_post_hooks _load_state_dict_pre_hooks "
    "_maybe_warn_non_full_backward_hook _modules _named_members _non_persistent_buffers_set _parameters "
    "_register_load_state_dict_pre_hook _register_state_dict_hook _replicate_for_data_parallel _save_to_state_dict "
    "_slow_forward _state_dict_hooks _state_dict_pre_hooks _version _wrapped_call_impl "
)

ATTRIBUTES = frozenset(_NAMES.split())
"""Names that every nn.Module or nn.Sequential has: a member with such a name cannot be read as an attribute."""


def weights(kind: str, a: Mapping[str, object]) -> tuple[Shapes, Shapes]:
    """The shapes of the parameters and of the buffers of a layer, in order, from its arguments."""
    if kind not in SIGNATURES:
        return {}, {}
    if kind.startswith("Conv"):
        i, o, groups, rank = a["in_channels"], a["out_channels"], a["groups"], int(kind[-2])
        kernel = a["kernel_size"]
        size = kernel if isinstance(kernel, tuple) else (kernel,) * rank
        first = (i, o // groups) if "Transpose" in kind else (o, i // groups)  # type: ignore[operator]
        return _biased(a, (*first, *size), (o,)), {}
    if kind == "Linear":
        return _biased(a, (a["out_features"], a["in_features"]), (a["out_features"],)), {}
    if kind.startswith(("BatchNorm", "InstanceNorm")):
        count = (a["num_features"],)
        own = {"weight": count, "bias": count} if a["affine"] else {}
        running = {"running_mean": count, "running_var": count, "num_batches_tracked": ()}
        return own, running if a["track_running_stats"] else {}  # type: ignore[return-value]
    if kind == "GroupNorm":
        count = (a["num_channels"],)
        return {"weight": count, "bias": count} if a["affine"] else {}, {}  # type: ignore[dict-item]
    if kind == "LayerNorm":
        shape = a["normalized_shape"]
        size = shape if isinstance(shape, tuple) else (shape,)
        return _biased(a, size, size) if a["elementwise_affine"] else {}, {}
    if kind == "RMSNorm":
        return {"weight": (a["normalized_shape"],)} if a["elementwise_affine"] else {}, {}  # type: ignore[dict-item]
    if kind == "MultiheadAttention":
        return _of_attention(a), {}
    return {"weight": (a["num_parameters"],)} if kind == "PReLU" else {}, {}  # type: ignore[dict-item]


def _of_attention(a: Mapping[str, object]) -> Shapes:
    """The parameters of nn.MultiheadAttention: its own before those of its member `out_proj`."""
    width = a["embed_dim"]
    assert isinstance(width, int)
    keys, values = (width if a[name] is None else a[name] for name in ("kdim", "vdim"))
    into: dict[str, object] = {"in_proj_weight": (3 * width, width)}
    if (keys, values) != (width, width):
        into = {f"{n}_proj_weight": (width, size) for n, size in zip("qkv", (width, keys, values), strict=True)}
    biases = {"in_proj_bias": (3 * width,)} if a["bias"] else {}
    out = {f"out_proj.{name}": shape for name, shape in _biased(a, (width, width), (width,)).items()}
    return {**into, **biases, **out}  # type: ignore[dict-item]


def _biased(
    a: Mapping[str, object], weight: tuple[object, ...], bias: tuple[object, ...]
) -> dict[str, tuple[int, ...]]:
    return {"weight": weight, "bias": bias} if a["bias"] else {"weight": weight}  # type: ignore[dict-item]
