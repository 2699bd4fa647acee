"""The names that PyTorch, Keras and papers use for parameters, and for what archdsl lacks.

Those of an operation are its `aliases`.
"""

from collections.abc import Collection, Mapping
from types import MappingProxyType

from archdsl.ops.facts import Facts

PARAMETERS: Mapping[str, str] = MappingProxyType(
    {
        "ceil_mode": "ceil",
        "count_include_pad": "count_pad",
        "dilation_rate": "dilation",
        "features": "out",
        "filters": "out",
        "kernel_size": "kernel",
        "keep_prob": "p",
        "dropout_p": "dropout",
        "is_causal": "causal",
        "negative_slope": "slope",
        "num_groups": "groups",
        "num_heads": "heads",
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

INFERRED = (
    *("in_channels", "in_features", "input_size", "in_planes"),
    *("normalized_shape", "num_channels", "num_features", "num_parameters"),
)
"""PyTorch's names of the number of input channels or features, which archdsl infers."""

LEFT_OUT: Mapping[str, str] = MappingProxyType(
    {
        **dict.fromkeys(INFERRED, "leave it out: input sizes are inferred"),
        "kdim": "leave it out: the channels of the keys are inferred",
        "vdim": "leave it out: the channels of the values are inferred",
        "embed_dim": "leave it out: input sizes are inferred",
        "batch_first": "leave it out: the compiler chooses the layout",
        "inplace": "leave it out: the compiler chooses in-place operations",
    }
)
"""Parameters without an equivalent here, with the reason."""

_PRODUCT = "only `matmul` multiplies two tensors, [M, K] and [K, N]; a `linear` multiplies by learned weights"
_RECURRENT = "there are no recurrent layers; dilated convolutions along time also have large receptive fields"
_TRANSFORMER = "write its layers out, `residual { layernorm -> attention(8) }` and another `residual` with two layers"
_UNPOOL = "the positions of maxima are not kept; `upsample` or `upconv` restore the size"
_RANDOM = "there are no random numbers except in dropout: output mean and variance, and sample outside"
_TABLE = "there are no embeddings; compute them outside, and pass the result to the `input`"
_WINDOWS = "`windows(7) { … }` cuts a map into windows, and puts together what its body makes of them"
_NORMED = "weights are not normalised; a `batchnorm` after the layer normalises its output"
_OUTSIDE = "declare one of a package, or your own, with `extern` (`archdsl help blocks`)"
_FUNCTION = (
    "the functions of tensors are activations, `exp`, `log`, `abs`, `square`, `sqrt`, `sin`, `cos`, `clamp`; "
    f"{_OUTSIDE}"
)
_POWER = f"`square`, `sqrt`, `(a, a, a) -> mul`, or `(b, a) -> div` for what is divided by it; {_OUTSIDE}"
_CHOOSING = "nothing is chosen by the numbers of a tensor: output them, and choose outside"
_PATCHES = f"`pixel_unshuffle(r)` makes channels of patches side by side, `windows` cuts a map; {_OUTSIDE}"
_GATED = "write the gate out: `linear(2 * n) -> split(2) -> (a, b): it`, and `(a -> silu, b) -> mul`"
_PLACES = "give coordinates as another `input`, or learn them: `(it, parameter(it.shape)) -> add`"
_TURNED = (
    "positions are learned (`parameter`), fixed (`sine_positions`), angles (`rotary`) or biases of attention "
    f"(`relative`); {_OUTSIDE}"
)
_SPECTRUM = f"compute it outside, and pass the result to the `input`; or {_OUTSIDE}"
_SAMPLED = f"there is no sampling at computed positions; {_OUTSIDE}"
_DYNAMIC = "the weights of a layer do not depend on its input; `(maps, weights) -> mul` weighs maps by computed numbers"
_BLOCK = "it is a block of a few lines, which some families of the library have: `archdsl list`, `archdsl help blocks`"
_CONSTANT = "constants multiply and are added by `rescale`: `rescale(0, 1)` gives ones of the same size"
_REPEATED = "merges repeat sizes of 1 (`mul`, `add(stretch = true)`), and `upsample` each position"
_TRAINING = "it is `batchnorm` here; PyTorch converts the built module (`nn.SyncBatchNorm`, `requires_grad_`)"

MISSING: Mapping[str, str] = MappingProxyType(
    {
        **dict.fromkeys(("einsum", "baddbmm", "bilinear"), _PRODUCT),
        **dict.fromkeys(("lstm", "gru", "rnn", "lstmcell", "grucell", "bilstm", "convlstm"), _RECURRENT),
        **dict.fromkeys(("transformer", "transformerencoder", "transformerdecoder"), _TRANSFORMER),
        **dict.fromkeys(("transformerencoderlayer", "transformerdecoderlayer"), _TRANSFORMER),
        **dict.fromkeys(("maxunpool", "unpool", "unpooling", "maxunpooling", "maxpool2dwithindices"), _UNPOOL),
        **dict.fromkeys(
            ("sample", "sampling", "reparameterize", "reparametrize", "randn", "noise", "rand", "randnlike"), _RANDOM
        ),
        **dict.fromkeys(("randnlike", "randlike", "normal", "bernoulli", "rsample"), _RANDOM),
        **dict.fromkeys(("embedding", "embed", "positionalembedding"), _TABLE),
        "grid": "`grid(7) { … }` has a body, which meets sparse grids of a map; `maps` makes a map of tokens",
        "windows": "`windows(7) { … }` has a body, which meets each window of a map as a sample of its own",
        **dict.fromkeys(("windowpartition", "partitionwindows", "windowreverse"), _WINDOWS),
        **dict.fromkeys(("roll", "cyclicshift"), f"{_WINDOWS}, rolled by a `shift`"),
        **dict.fromkeys(("spectralnorm", "weightnorm"), _NORMED),
        "unsqueeze": "`reshape` inserts axes, as in `reshape([C, 1, it.size[0]])`",
        **dict.fromkeys(("deformconv", "dcn"), f"there are no deformable convolutions; {_OUTSIDE}"),
        **dict.fromkeys(("gridsample", "affinegrid", "warp"), _SAMPLED),
        **dict.fromkeys(("pow", "power", "rsqrt", "reciprocal"), _POWER),
        **dict.fromkeys(("unfold", "fold", "imcol", "im2col", "colim", "extractpatches"), _PATCHES),
        **dict.fromkeys(("roialign", "roipool", "nms", "psroipool", "anchorgenerator"), _CHOOSING),
        **dict.fromkeys(("where", "argmax", "topk", "gather", "scatter", "sort", "cumsum", "indexselect"), _CHOOSING),
        **dict.fromkeys(("gt", "lt", "ge", "le", "eq", "ne", "maskedfill", "maskedselect", "nonzero"), _CHOOSING),
        **dict.fromkeys(("fftrfft", "fftirfft", "fftfft", "fftifft"), _SPECTRUM),
        **dict.fromkeys(("long", "int", "onehot"), _TABLE),
        **dict.fromkeys(("tan", "erf", "sign", "logsumexp", "log1p", "expm1", "round", "floor"), _FUNCTION),
        **dict.fromkeys(("coordconv", "meshgrid", "addcoords", "linspace"), _PLACES),
        "alibi": _TURNED,
        **dict.fromkeys(("mamba", "ssm", "selectivescan", "retention"), f"there are no recurrent layers; {_OUTSIDE}"),
        **dict.fromkeys(("fft", "rfft", "stft", "dct", "spectrogram", "melspectrogram"), _SPECTRUM),
        **dict.fromkeys(("glu", "swiglu", "geglu", "gatedmlp", "swiglupacked"), _GATED),
        "simplenorm": f"`rmsnorm` and `layernorm` are near; {_OUTSIDE}",
        **dict.fromkeys(("frn", "filterresponsenorm", "evonorm", "tlu"), f"`groupnorm` is the nearest; {_OUTSIDE}"),
        **dict.fromkeys(("syncbatchnorm", "frozenbatchnorm"), _TRAINING),
        **dict.fromkeys(("celu", "threshold", "rrelu"), f"`relu`, `elu` and `leaky_relu` are near; {_OUTSIDE}"),
        **dict.fromkeys(("involution", "dynamicconv", "condconv", "hypernetwork"), _DYNAMIC),
        "maskedconv": "cut the kernel: `pad(1, after = 0) -> conv(n, 2, pad = valid)`; or `pad = causal`",
        "maxout": "`split(2) -> maximum` takes the larger half",
        **dict.fromkeys(("zeros", "ones", "constant", "full", "zeroslike"), _CONSTANT),
        **dict.fromkeys(("tile", "repeat", "expand", "broadcast"), _REPEATED),
        **dict.fromkeys(("flip", "rot90"), "turn images before the network, as `augment` does"),
        **dict.fromkeys(("gem", "globalstdpool", "lppool"), f"`global_avgpool` and `global_maxpool`; {_OUTSIDE}"),
        **dict.fromkeys(("cosinesimilarity", "cdist"), "`normalize` both; `mul` or `matmul` gives their cosines then"),
        **dict.fromkeys(("dropblock", "shakeshake"), "`dropout_channels` drops channels, `droppath` whole samples"),
        **dict.fromkeys(("squeezeexcite", "squeezeexcitation", "se", "seblock", "cbam", "aspp", "spp"), _BLOCK),
        **dict.fromkeys(("nonlocal", "windowattention", "patchembed", "patchmerging", "inception"), _BLOCK),
        **dict.fromkeys(("posembed", "learnedposition"), _PLACES),
        "deformableattention": _SAMPLED,
        "mean": "`global_avgpool` of the positions, `channel_mean` of the channels, `reduce_mean` of an axis",
        **dict.fromkeys(("mixture", "moe", "mixtureofexperts"), f"all branches of a parallel run; {_OUTSIDE}"),
    }
)
"""Operations that do not exist here, by their names elsewhere, with an alternative."""


def _bare(name: str) -> str:
    """A name without the affixes of libraries: `Conv2d`, `max_pool`, `nn.Linear`."""
    return name.removeprefix("nn.").lower().replace("_", "").rstrip("d").rstrip("123")


def operation(name: str, known: Mapping[str, type[Facts]]) -> str | None:
    """The operation of `known` that has another name elsewhere (`Conv2d`, `deconv`); None for an unknown one."""
    plain, bare = name.lower(), _bare(name)
    by_name = (k for k in known if k.replace("_", "") == bare)
    by_alias = {alias: k for k, cls in known.items() for alias in cls.aliases}
    return by_alias.get(plain) or next(by_name, None) or by_alias.get(bare)


def called(name: str, here: str) -> str:
    """Advice for an operation with another name."""
    return f"archdsl calls it `{here}`" + (", for every rank" if name.lower()[-2:] in ("1d", "2d", "3d") else "")


def missing(name: str) -> str | None:
    """Advice for an operation that does not exist."""
    return MISSING.get(_bare(name)) or MISSING.get(name.lower().replace("_", ""))


def without(what: str, name: str) -> str:
    """That there is no operation for what has a name elsewhere, and the advice for it."""
    advice = missing(name)
    return f"the language has no operation for {what}" + (f": {advice}" if advice else "")


def parameter(name: str, known: Collection[str]) -> str:
    """Advice for a parameter that an operation lacks; `known` are those that it has."""
    if name in LEFT_OUT:
        return LEFT_OUT[name]
    return listed(known)


def listed(known: Collection[str]) -> str:
    """The existing parameters."""
    return "it has: " + ", ".join(f"`{k}`" for k in known) if known else "it has none"
