"""The operations of the language, by name, in the order of the language reference."""

from collections.abc import Mapping
from types import MappingProxyType

from archdsl.ops import activation, align, channels, conv, merge, norm, pool, regularise, resize, shape
from archdsl.ops.base import Operation
from archdsl.ops.input import Input

OPERATIONS: Mapping[str, type[Operation]] = MappingProxyType(
    {
        operation.name: operation
        for operation in (
            conv.Conv,
            conv.Upconv,
            conv.Linear,
            pool.Maxpool,
            pool.Avgpool,
            pool.AdaptiveAvgpool,
            pool.AdaptiveMaxpool,
            pool.GlobalAvgpool,
            pool.GlobalMaxpool,
            norm.Batchnorm,
            norm.Layernorm,
            norm.Groupnorm,
            norm.Instancenorm,
            norm.Lrn,
            activation.Relu,
            activation.Relu6,
            activation.LeakyRelu,
            activation.Prelu,
            activation.Elu,
            activation.Selu,
            activation.Gelu,
            activation.Silu,
            activation.Mish,
            activation.Sigmoid,
            activation.Hardsigmoid,
            activation.Hardswish,
            activation.Tanh,
            activation.Softplus,
            activation.Softmax,
            regularise.Dropout,
            regularise.DropoutChannels,
            regularise.Droppath,
            merge.Add,
            merge.Mul,
            merge.Sub,
            merge.Maximum,
            merge.Mean,
            merge.Concat,
            align.Align,
            align.Crop,
            align.PadEdges,
            resize.Upsample,
            resize.Resize,
            resize.PixelShuffle,
            resize.PixelUnshuffle,
            channels.Split,
            channels.Slice,
            channels.ChannelShuffle,
            channels.Scale,
            shape.Flatten,
            shape.Reshape,
            shape.Permute,
        )
    }
)

__all__ = ["OPERATIONS", "Input", "Operation"]
