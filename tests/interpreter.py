"""Interprets a graph node by node: each operation is implemented by hand from docs/language/operations.md.

It shares nothing with the generator of modules, nor with the PyTorch forms of operations (one that is not implemented
here yet runs in its form). It runs nothing in place: every result is a new tensor, so a built module that overwrites
too much differs.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from archdsl import dims
from archdsl.graph import Graph, Node
from archdsl.graph import Tensor as Result
from tests.ops.forms import Built

LARGE = 1e12
"""Scores of attention from here on leave no digit of its weights."""
Keep = Callable[[tuple[int, ...], float, Tensor], Tensor]
"""Draws ones with probability p, else zeros: `keep(shape, p, like)`."""


class Noise(Protocol):
    """Perturbs the numbers of a node like rounding."""

    def value(self, x: Tensor, largest: float | Tensor) -> Tensor:
        """`x`, computed from numbers of that magnitude."""
        ...

    def node(self, run: Callable[[Sequence[Tensor]], list[Tensor]], inputs: Sequence[Tensor]) -> list[Tensor]:
        """The result of a node for its inputs, with rounding at each step, also in the backward pass."""
        ...

    gain: float
    """The factor by which a node may enlarge a gradient that later becomes small."""


def bernoulli(shape: tuple[int, ...], p: float, like: Tensor) -> Tensor:
    return torch.bernoulli(torch.full(shape, p, dtype=like.dtype))


@dataclass
class Interpreter:
    """Runs a checked graph with the tensors of a state_dict, which it reads by the keys of the graph.

    `sizes` are the values of the free sizes. In training the statistics in `state` are replaced by the new ones.
    """

    graph: Graph
    state: dict[str, Tensor]
    sizes: Mapping[str, int]
    training: bool = False
    keep: Keep = bernoulli
    noise: Noise | None = None
    values: dict[Result, Tensor] = field(default_factory=dict)

    def run(self, inputs: Sequence[Tensor]) -> dict[str | None, Tensor]:
        """The outputs by name; training outputs only in training."""
        self.values = {Result(n.id): x for n, x in zip(self.graph.input_nodes, inputs, strict=True)}
        wanted = [o for o in self.graph.outputs if self.training or not o.training]
        needed = self.graph.ancestors(o.tensor for o in wanted)
        for node in self.graph.nodes():
            if node.operation.name == "input" or node.id not in needed:
                continue
            results = self.node(node)
            assert len(results) == len(node.shapes)
            for i, x in enumerate(results):
                says = [dims.evaluate(d, self.sizes) for d in self.graph.shape(Result(node.id, i))]
                assert list(x.shape[1:]) == says, f"{node} gives {list(x.shape[1:])}, the graph says {says}"
                self.values[Result(node.id, i)] = x
        return {o.name: self.values[o.tensor] for o in wanted}

    def node(self, node: Node) -> list[Tensor]:
        operation = getattr(self, f"_{node.operation.name}", self.by_its_form)

        def run(tensors: Sequence[Tensor]) -> list[Tensor]:
            found = operation(node.operation, node.path, *tensors)
            return list(found) if isinstance(found, list | tuple) else [found]

        tensors = [self.values[t] for t in node.inputs]
        return run(tensors) if self.noise is None else self.noise.node(run, tensors)

    def by_its_form(self, op: Any, path: str, *tensors: Tensor) -> Any:
        """What an operation that is not written here gives by its own form, on other statistics than a batch's."""
        built = Built(op, tuple(tuple(x.shape[1:]) for x in tensors), dtype=torch.float64).train(self.training)
        state = {key: self.state[path + key.removeprefix("op")] for key in built.state_dict()}
        return torch.func.functional_call(built, state, tensors)

    def normal(self, x: Tensor, mean: Tensor, variance: Tensor, eps: float) -> Tensor:
        deviation = torch.sqrt(variance + eps)
        found = (x - mean) / deviation
        if self.noise is not None:
            self.noise.gain = max(self.noise.gain, float(1 / deviation.detach().min()))
            found = self.noise.value(found, float(x.detach().abs().max()) * self.noise.gain)
        return found

    def softened(self, scores: Tensor) -> Tensor:
        """The softmax along the last axis."""
        noise, seen = self.noise, 0.0
        if noise is None or scores.shape[-1] == 1:  # the weight is 1, without rounding
            return softmax(scores)
        scores = noise.value(scores, min(LARGE, float(scores.detach().nan_to_num(neginf=0.0).abs().max())))
        weights = softmax(scores)
        if not weights.requires_grad:
            return weights

        def see(gradient: Tensor) -> None:
            nonlocal seen
            seen = float(gradient.abs().max())

        # Where one score is far above the others, the gradient is a difference of numbers as large as these.
        weights.register_hook(see)
        scores.register_hook(lambda gradient: noise.value(gradient, seen * weights.detach()))
        return weights

    def weight(self, path: str, name: str) -> Tensor:
        return self.state[f"{path}.{name}"]

    # ------------------------------------------------------------ convolution

    def _conv(self, op: Any, path: str, x: Tensor) -> Tensor:
        weight = self.weight(path, "weight")
        kernel = weight.shape[2:]
        axes = len(kernel)
        stride, dilation = each(op.stride, axes), each(op.dilation, axes)
        before, after = margins(op.pad, kernel, stride, dilation, x)
        if op.flip:
            weight = weight.flip(*range(2, 2 + axes))
        if op.name == "stdconv":
            weight = self._standardised(op, path, weight)
        bias = self.weight(path, "bias") if op.bias else None
        convolve = (F.conv1d, F.conv2d, F.conv3d)[axes - 1]
        return convolve(padded(x, before, after, op.pad_mode), weight, bias, stride, 0, dilation, op.groups)

    _stdconv = _conv

    def _standardised(self, op: Any, path: str, weight: Tensor) -> Tensor:
        """Each kernel by itself."""
        kernels = []
        for i, kernel in enumerate(weight):
            count = kernel.numel()
            mean = kernel.sum() / count
            variance = ((kernel - mean) ** 2).sum() / count
            kernel = self.normal(kernel, mean, variance, op.eps)
            if op.gamma is not None:
                kernel = kernel * self.weight(path, "gain").reshape(-1)[i] * (op.gamma / math.sqrt(count))
            kernels.append(kernel)
        return torch.stack(kernels)

    def _upconv(self, op: Any, path: str, x: Tensor) -> Tensor:
        axes = x.ndim - 2
        kernel, dilation = each(op.kernel, axes), each(op.dilation, axes)
        stride = kernel if op.stride is None else each(op.stride, axes)
        pad, _ = margins(op.pad, kernel, stride, dilation, x)
        bias = self.weight(path, "bias") if op.bias else None
        # As documented: each element paints a kernel, pad is cut off and output_pad stands behind. In one dimension a
        # time it would be as long; PyTorch's transposed convolution is defined as this.
        transposed = (F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d)[axes - 1]
        more = each(op.output_pad, axes)
        return transposed(x, self.weight(path, "weight"), bias, stride, pad, more, op.groups, dilation)

    def _tokens(self, op: Any, path: str, x: Tensor) -> Tensor:
        return x.reshape(*x.shape[:2], -1)

    def _maps(self, op: Any, path: str, x: Tensor) -> Tensor:
        sizes = op.to if isinstance(op.to, tuple) else (op.to,)
        return x.reshape(*x.shape[:2], *(dims.evaluate(size, self.sizes) for size in sizes))

    def _linear(self, op: Any, path: str, x: Tensor) -> Tensor:
        product = torch.einsum("nc...,oc->no...", x, self.weight(path, "weight"))
        if not op.bias:
            return product
        bias = self.weight(path, "bias")
        if isinstance(op.bias, tuple):
            part = len(bias) // len(op.bias)
            bias = bias * torch.tensor([float(op.bias[i // part]) for i in range(len(bias))])
        return product + channels(bias, x)

    # ------------------------------------------------------------ windows

    def _windows(self, op: Any, path: str, x: Tensor) -> Tensor:
        places, sizes = window_places(op, x)
        whole = padded(x, [0] * len(sizes), [n - m for n, m in zip(sizes, x.shape[2:], strict=True)], "zeros")
        return torch.stack([whole[(..., *torch.meshgrid(*w, indexing="ij"))] for w in product(*places)], 1).flatten(
            0, 1
        )

    _grid = _windows

    def _strangers(self, op: Any, path: str, like: Tensor, bias: Tensor | None = None) -> Tensor:
        """Two positions of a window are neighbours if they are as far apart in the map as in the window."""
        places, _ = window_places(op.cut, like)
        masks = []
        for window in product(*places):
            here = torch.cartesian_prod(*(torch.arange(len(p)) for p in window)).reshape(-1, len(window))
            there = torch.cartesian_prod(*window).reshape(-1, len(window))
            apart = ((there[:, None] - there) != (here[:, None] - here)).any(2)
            masks.append(torch.where(apart, -math.inf, 0.0).to(like.dtype))
        mask = torch.stack(masks)[:, None].repeat(len(like), 1, 1, 1)
        return mask if bias is None else mask + bias

    def _join(self, op: Any, path: str, windows: Tensor, like: Tensor) -> Tensor:
        places, sizes = window_places(op.cut, like)
        each_window = windows.unflatten(0, (len(like), -1)).unbind(1)
        whole = windows.new_zeros(len(like), windows.shape[1], *sizes)
        for place, window in zip(product(*places), each_window, strict=True):
            whole = whole.clone()
            whole[(..., *torch.meshgrid(*place, indexing="ij"))] = window
        return whole[(..., *(slice(n) for n in like.shape[2:]))]

    # ------------------------------------------------------------ layers from outside (tests/outside.py)

    def _outside(self, op: Any, path: str, x: Tensor) -> Tensor:
        shift = self.weight(path, "shift")
        if self.training:
            self.state[f"{path}.shift"] = shift + 1
        if op.values()["bias"]:
            shift = shift + self.weight(path, "inner.bias")
        return torch.einsum("nc...,oc->no...", x, self.weight(path, "weight")) + channels(shift, x)

    def _bend(self, op: Any, path: str, x: Tensor) -> Tensor:
        factor = op.values()["factor"]
        return torch.tanh(factor * x) if op.values()["name"] == "tanh" else torch.sin(factor * x)

    def _blend(self, op: Any, path: str, a: Tensor, b: Tensor) -> Tensor:
        share = op.values()["share"]
        return share * a + (1 - share) * b

    # ------------------------------------------------------------ pooling

    def _maxpool(self, op: Any, path: str, x: Tensor) -> Tensor:
        kernel, stride, dilation = pool_numbers(op, x, op.dilation)
        pool = (F.max_pool1d, F.max_pool2d, F.max_pool3d)[x.ndim - 3]
        if op.pad == "same_upper":
            before, after = margins(op.pad, kernel, stride, dilation, x)
            return pool(padded(x, before, after, "zeros", -math.inf), kernel, stride, 0, dilation)
        pad, _ = margins(op.pad, kernel, stride, dilation, x)
        return pool(x, kernel, stride, pad, dilation, op.ceil)

    def _avgpool(self, op: Any, path: str, x: Tensor) -> Tensor:
        kernel, stride, dilation = pool_numbers(op, x, 1)
        pool = (F.avg_pool1d, F.avg_pool2d, F.avg_pool3d)[x.ndim - 3]
        before, after = margins(op.pad, kernel, stride, dilation, x)
        if op.pad == "same_upper":
            total = pool(padded(x, before, after, "zeros"), kernel, stride)
            if op.count_pad:
                return total
            return total / pool(padded(torch.ones_like(x), before, after, "zeros"), kernel, stride)
        return pool(x, kernel, stride, before, op.ceil, op.count_pad)

    def _blur(self, op: Any, path: str, x: Tensor) -> Tensor:
        for axis, step in enumerate(each(op.stride, x.ndim - 2), 2):
            count = (x.shape[axis] - op.kernel) // step + 1
            rows = []
            for i in range(op.kernel):
                at = torch.arange(count) * step + i
                rows.append(x.index_select(axis, at) * (math.comb(op.kernel - 1, i) / 2 ** (op.kernel - 1)))
            x = total(rows)
        return x

    def _adaptive_avgpool(self, op: Any, path: str, x: Tensor) -> Tensor:
        """The means of windows from ⌊i·n / size⌋ to ⌈(i + 1)·n / size⌉, one axis at a time."""
        for axis, size in enumerate(each(op.size, x.ndim - 2), 2):
            n = x.shape[axis]
            parts = [(i * n // size, -(-(i + 1) * n // size)) for i in range(size)]
            x = torch.cat([x.narrow(axis, a, b - a).mean(axis, keepdim=True) for a, b in parts], axis)
        return x

    def _adaptive_maxpool(self, op: Any, path: str, x: Tensor) -> Tensor:
        pool = (F.adaptive_max_pool1d, F.adaptive_max_pool2d, F.adaptive_max_pool3d)[x.ndim - 3]
        return pool(x, each(op.size, x.ndim - 2))

    def _global_avgpool(self, op: Any, path: str, x: Tensor) -> Tensor:
        return x.mean(tuple(range(2, x.ndim)), keepdim=True)

    def _global_maxpool(self, op: Any, path: str, x: Tensor) -> Tensor:
        # With its kernel rather than amax, which splits the gradient between equal maxima.
        pool = (F.adaptive_max_pool1d, F.adaptive_max_pool2d, F.adaptive_max_pool3d)[x.ndim - 3]
        return pool(x, (1,) * (x.ndim - 2))

    def _channel_mean(self, op: Any, path: str, x: Tensor) -> Tensor:
        return x.sum(1, keepdim=True) / x.shape[1]

    def _reduce_mean(self, op: Any, path: str, x: Tensor) -> Tensor:
        return x.sum(op.axis + 1, keepdim=True) / x.shape[op.axis + 1]

    def _reduce_sum(self, op: Any, path: str, x: Tensor) -> Tensor:
        return x.sum(op.axis + 1, keepdim=True)

    def _reduce_max(self, op: Any, path: str, x: Tensor) -> Tensor:
        return x.amax(op.axis + 1, keepdim=True)

    def _channel_max(self, op: Any, path: str, x: Tensor) -> Tensor:
        return x.amax(1, keepdim=True)

    def _squeeze(self, op: Any, path: str, x: Tensor) -> Tensor:
        return x.reshape([n for a, n in enumerate(x.shape) if a != op.axis + 1])

    # ------------------------------------------------------------ normalisation

    def _affine(self, path: str, x: Tensor) -> Tensor:
        return x * channels(self.weight(path, "weight"), x) + channels(self.weight(path, "bias"), x)

    def _batchnorm(self, op: Any, path: str, x: Tensor) -> Tensor:
        axes = [0, *range(2, x.ndim)]
        if self.training:
            mean, variance = x.mean(axes), x.var(axes, unbiased=False)
            self.track(path, op.momentum, mean, x.var(axes, unbiased=True))
        else:
            mean, variance = self.weight(path, "running_mean"), self.weight(path, "running_var")
        normal = self.normal(x, channels(mean, x), channels(variance, x), op.eps)
        return self._affine(path, normal) if op.affine else normal

    def track(self, path: str, momentum: float | None, mean: Tensor, variance: Tensor, count: bool = True) -> None:
        """The new running statistics: with weight `momentum` for a new batch, or with none the mean of all batches."""
        batches = self.state[f"{path}.num_batches_tracked"] + count
        self.state[f"{path}.num_batches_tracked"] = batches
        share = momentum if momentum is not None else 1 / float(batches)
        for name, new in (("running_mean", mean), ("running_var", variance)):
            old = self.weight(path, name)
            self.state[f"{path}.{name}"] = (1 - share) * old + share * new.detach()

    def _layernorm(self, op: Any, path: str, x: Tensor) -> Tensor:
        mean, variance = x.mean(1, keepdim=True), x.var(1, unbiased=False, keepdim=True)
        x = self.normal(x, mean, variance, op.eps)
        if op.affine and not op.bias:
            return x * channels(self.weight(path, "weight"), x)
        return self._affine(path, x) if op.affine else x

    def _rmsnorm(self, op: Any, path: str, x: Tensor) -> Tensor:
        x = x * (x.square().mean(1, keepdim=True) + op.eps).rsqrt()
        return x * channels(self.weight(path, "weight"), x) if op.affine else x

    def _groupnorm(self, op: Any, path: str, x: Tensor) -> Tensor:
        parts = []
        for part in x.split(x.shape[1] // op.groups, 1):
            axes = all_but_first(part)
            mean, variance = part.mean(axes, keepdim=True), part.var(axes, unbiased=False, keepdim=True)
            parts.append(self.normal(part, mean, variance, op.eps))
        return self._affine(path, torch.cat(parts, 1)) if op.affine else torch.cat(parts, 1)

    def _instancenorm(self, op: Any, path: str, x: Tensor) -> Tensor:
        axes = tuple(range(2, x.ndim))
        if self.training or not op.track:
            mean, variance = x.mean(axes, keepdim=True), x.var(axes, unbiased=False, keepdim=True)
        else:
            mean, variance = (channels(self.weight(path, f"running_{k}"), x) for k in ("mean", "var"))
        if self.training and op.track:
            # PyTorch's module does not count batches here.
            self.track(path, op.momentum, x.mean(axes).mean(0), x.var(axes, unbiased=True).mean(0), count=False)
        normal = self.normal(x, mean, variance, op.eps)
        return self._affine(path, normal) if op.affine else normal

    def _lrn(self, op: Any, path: str, x: Tensor) -> Tensor:
        count, before = x.shape[1], op.size // 2
        squares = x * x
        around = [squares[:, max(0, c - before) : c - before + op.size].sum(1, keepdim=True) for c in range(count)]
        return x / (op.k + op.alpha / op.size * torch.cat(around, 1)) ** op.beta

    # ------------------------------------------------------------ activation

    def _relu(self, op: Any, path: str, x: Tensor) -> Tensor:
        return torch.where(x <= 0, 0.0, x)

    def _relu6(self, op: Any, path: str, x: Tensor) -> Tensor:
        return torch.where(x <= 0, 0.0, torch.where(x >= 6, 6.0, x))

    def _leaky_relu(self, op: Any, path: str, x: Tensor) -> Tensor:
        return torch.where(x > 0, x, op.slope * x)

    def _prelu(self, op: Any, path: str, x: Tensor) -> Tensor:
        return torch.where(x > 0, x, channels(self.weight(path, "weight"), x) * x)

    def _elu(self, op: Any, path: str, x: Tensor) -> Tensor:
        return torch.where(x > 0, x, op.alpha * torch.expm1(torch.where(x > 0, 0.0, x)))

    def _selu(self, op: Any, path: str, x: Tensor) -> Tensor:
        alpha, scale = 1.6732632423543772848170429916717, 1.0507009873554804934193349852946
        return scale * torch.where(x > 0, x, alpha * torch.expm1(torch.where(x > 0, 0.0, x)))

    def _gelu(self, op: Any, path: str, x: Tensor) -> Tensor:
        if op.approximate == "tanh":
            return 0.5 * x * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))
        return x * 0.5 * (1 + torch.erf(x / math.sqrt(2)))

    def _silu(self, op: Any, path: str, x: Tensor) -> Tensor:
        return x * torch.sigmoid(x)

    def _mish(self, op: Any, path: str, x: Tensor) -> Tensor:
        return x * torch.tanh(torch.logaddexp(x, torch.zeros_like(x)))

    def _sigmoid(self, op: Any, path: str, x: Tensor) -> Tensor:
        return torch.sigmoid(x)

    # With PyTorch's kernels: their gradients take a sixth of the time in single precision.

    def _hardsigmoid(self, op: Any, path: str, x: Tensor) -> Tensor:
        return F.hardsigmoid(x)

    def _hardswish(self, op: Any, path: str, x: Tensor) -> Tensor:
        return F.hardswish(x)

    def _tanh(self, op: Any, path: str, x: Tensor) -> Tensor:
        return torch.tanh(x)

    def _softplus(self, op: Any, path: str, x: Tensor) -> Tensor:
        return F.softplus(x, op.beta)  # which is the identity from 20 on

    def _exp(self, op: Any, path: str, x: Tensor) -> Tensor:
        return torch.exp(x)

    def _log(self, op: Any, path: str, x: Tensor) -> Tensor:
        return torch.log(x)

    def _sqrt(self, op: Any, path: str, x: Tensor) -> Tensor:
        return torch.sqrt(x)

    def _sin(self, op: Any, path: str, x: Tensor) -> Tensor:
        return torch.sin(x)

    def _cos(self, op: Any, path: str, x: Tensor) -> Tensor:
        return torch.sin(x + math.pi / 2)

    def _square(self, op: Any, path: str, x: Tensor) -> Tensor:
        return x * x

    def _abs(self, op: Any, path: str, x: Tensor) -> Tensor:
        return x * torch.sign(x).detach()

    def _hardtanh(self, op: Any, path: str, x: Tensor) -> Tensor:
        return torch.where(x <= op.min, op.min, torch.where(x >= op.max, op.max, x))

    def _clamp(self, op: Any, path: str, x: Tensor) -> Tensor:
        x = x if op.min is None else torch.where(x < op.min, op.min, x)
        return x if op.max is None else torch.where(x > op.max, op.max, x)

    def _log_softmax(self, op: Any, path: str, x: Tensor) -> Tensor:
        x = x - x.detach().amax(op.axis + 1, keepdim=True)
        return x - torch.exp(x).sum(op.axis + 1, keepdim=True).log()

    def _softmax(self, op: Any, path: str, x: Tensor) -> Tensor:
        powers = torch.exp(x - x.detach().amax(op.axis + 1, keepdim=True))
        return powers / powers.sum(op.axis + 1, keepdim=True)

    # ------------------------------------------------------------ constants, products, responses

    def _identity(self, op: Any, path: str, x: Tensor) -> Tensor:
        return x

    def _rescale(self, op: Any, path: str, x: Tensor) -> Tensor:
        return op.offset + op.scale * x

    def _matmul(self, op: Any, path: str, a: Tensor, b: Tensor) -> Tensor:
        return torch.einsum("n...mk,n...kl->n...ml", a, b)

    def _normalize(self, op: Any, path: str, x: Tensor) -> Tensor:
        length = (x * x).sum(op.axis + 1, keepdim=True).sqrt()
        return x / length.clamp(min=op.eps)

    def _grn(self, op: Any, path: str, x: Tensor) -> Tensor:
        norms = (x * x).sum(all_but_first(x)[1:], keepdim=True).sqrt()
        return x + self._affine(path, x * norms / (norms.mean(1, keepdim=True) + op.eps))

    # ------------------------------------------------------------ learned tensors

    def _parameter(self, op: Any, path: str) -> Tensor:
        """One sample, with its channels first."""
        weight = self.state[path]
        if op.stored in ("tokens", "rows"):
            weight = weight.reshape(*weight.shape[-len(op.sizes) :]).movedim(-1, 0)
        return weight.reshape(1, *op.sizes)

    def _expand(self, op: Any, path: str, x: Tensor, like: Tensor) -> Tensor:
        # In a part that is called again, this item may meet a tensor with a batch: it changes nothing then.
        return x if len(x) == len(like) else x.repeat(len(like), *(1 for _ in x.shape[1:]))

    # ------------------------------------------------------------ attention

    def _attention(self, op: Any, path: str, *tensors: Tensor) -> Tensor:
        """Head by head, and query by query from the scores on."""
        added = tensors[3] if len(tensors) == 4 else None
        tensors = tensors[:3]
        query, key, value = (tensors[0], tensors[min(1, len(tensors) - 1)], tensors[-1])
        rows = [x.flatten(2).transpose(1, 2) for x in (query, key, value)]
        width = query.shape[1]
        if f"{path}.in_proj_weight" in self.state:
            matrices = list(self.weight(path, "in_proj_weight").split(width))
        else:
            matrices = [self.weight(path, f"{name}_proj_weight") for name in "qkv"]
        parts = [x @ matrix.T for x, matrix in zip(rows, matrices, strict=True)]
        if op.bias:
            biases = self.weight(path, "in_proj_bias").split(width)
            parts = [part + bias for part, bias in zip(parts, biases, strict=True)]
        keep: Tensor | None = None
        if self.training and op.dropout:
            shape = (query.shape[0], op.heads, parts[0].shape[1], parts[1].shape[1])
            keep = self.keep(shape, 1 - op.dropout, query) / (1 - op.dropout)
        mixed = attended(*parts, op.heads, 1 / math.sqrt(width // op.heads), op.causal, keep, added, self.softened)
        found = mixed @ self.weight(path, "out_proj.weight").T
        found = found + self.weight(path, "out_proj.bias") if op.bias else found
        return found.transpose(1, 2).reshape(query.shape)

    def _attend(self, op: Any, path: str, *tensors: Tensor) -> Tensor:
        query, _, value = tensors[:3]
        q, k, v = (x.flatten(2).transpose(1, 2) for x in tensors[:3])
        scale: Any = op.scale if op.scale is not None else (query.shape[1] // op.heads) ** -0.5
        if op.scale == "cosine":
            q, k = (
                torch.cat([part / part.norm(dim=2, keepdim=True).clamp(min=1e-12) for part in x.chunk(op.heads, 2)], 2)
                for x in (q, k)
            )
            scale = torch.exp(torch.minimum(self.state[path], torch.tensor(math.log(100.0))))
        bias = tensors[3] if len(tensors) == 4 else None
        mixed = attended(q, k, v, op.heads, scale, op.causal, None, bias, self.softened)
        return mixed.transpose(1, 2).reshape(*value.shape[:2], *query.shape[2:])

    def _relative(self, op: Any, path: str, table: Tensor) -> Tensor:
        size = math.prod(op.sides)
        if op.stored:
            return table.flatten(2)[..., self.state[path].reshape(-1)].reshape(*table.shape[:2], size, size)
        numbers = self._distances(op, table.flatten(2).shape[2])
        return torch.stack([torch.stack([table.flatten(2)[..., n] for n in row], -1) for row in numbers], 2)

    def _distances(self, op: Any, count: int) -> list[list[int]]:
        """The numbers of the differences between queries and keys, by counting: a row for each query."""
        h, w = op.sides
        keys = list(itertools.product(range(h), range(w)))
        rows = []
        for y, x in itertools.product(range(0, h, op.step), range(0, w, op.step)):
            if op.signed:
                row = [(y - a + h - 1) * (2 * w - 1) + x - b + w - 1 for a, b in keys]
            else:
                row = [abs(y - a) * w + abs(x - b) for a, b in keys]
            rows.append([count - 2, *row] if op.class_token else row)
        return [[count - 1] + [count - 3] * len(keys), *rows] if op.class_token else rows

    def _coordinates(self, op: Any, path: str) -> Tensor:
        return self.state[path].movedim(-1, 1)

    def _differences(self, op: Any, path: str, like: Tensor) -> Tensor:
        def scaled(d: int, most: int) -> float:
            if op.scale == "positions":
                return math.copysign(math.log(1 + abs(d)), d) if d else 0.0
            return math.copysign(math.log(1 + abs(8 * d / most), 8), d) if d else 0.0

        h, w = (n - 1 for n in like.shape[2:])
        places = [(y, x) for y in range(-h, h + 1) for x in range(-w, w + 1)]
        numbers = [[scaled(y, h) for y, _ in places], [scaled(x, w) for _, x in places]]
        return torch.tensor(numbers, dtype=like.dtype).reshape(1, 2, 2 * h + 1, 2 * w + 1)

    def _sine_positions(self, op: Any, path: str, like: Tensor) -> Tensor:
        sizes = like.shape[2:]
        pairs = op.channels // len(sizes) // 2
        found = torch.zeros(1, op.channels, *sizes, dtype=like.dtype)
        for place in product(*map(range, sizes)):
            numbers = []
            for p, size in zip(place, sizes, strict=True):
                position = (p + 1) / (size + 1e-6) * 2 * math.pi if op.normalized else p
                angles = [position / op.temperature ** (i / pairs) for i in range(pairs)]
                numbers += [f(a) for a in angles for f in (math.sin, math.cos)]
            found[(0, slice(None), *place)] = torch.tensor(numbers, dtype=like.dtype)
        return found

    def _rotary(self, op: Any, path: str, x: Tensor) -> Tensor:
        sizes, each_head = x.shape[2:], x.shape[1] // op.heads
        half, count = each_head // 2, each_head // 2 // len(sizes)
        angles = torch.zeros(half, *sizes, dtype=x.dtype)
        for place in product(*map(range, sizes)):
            at: Any = place
            if op.positions == "centred":
                at = [2 * math.pi * ((i + 0.5) / n * 2 - 1) for i, n in zip(place, sizes, strict=True)]
            elif op.positions != "counted":
                at = [i * op.positions / n for i, n in zip(place, sizes, strict=True)]
            numbers = [p / op.temperature ** (j / count) for p in at for j in range(count)]
            angles[(slice(None), *place)] = torch.tensor(numbers, dtype=x.dtype)
        found: list[Any] = [None] * x.shape[1]
        for head in range(op.heads):
            for pair in range(half):
                a, b = (pair, pair + half) if op.pairs == "halves" else (2 * pair, 2 * pair + 1)
                a, b = head * each_head + a, head * each_head + b
                cosine, sine = angles[pair].cos(), angles[pair].sin()
                found[a] = x[:, a] * cosine - x[:, b] * sine
                found[b] = x[:, b] * cosine + x[:, a] * sine
        return torch.stack(found, 1)

    # ------------------------------------------------------------ regularisation

    def _dropped(self, x: Tensor, p: float, shape: tuple[int, ...]) -> Tensor:
        if not self.training or p == 0:
            return x
        return x * 0 if p == 1 else x * (self.keep(shape, 1 - p, x) / (1 - p))

    def _dropout(self, op: Any, path: str, x: Tensor) -> Tensor:
        return self._dropped(x, op.p, tuple(x.shape))

    def _dropout_channels(self, op: Any, path: str, x: Tensor) -> Tensor:
        return self._dropped(x, op.p, (*x.shape[:2], *(1 for _ in x.shape[2:])))

    def _droppath(self, op: Any, path: str, x: Tensor) -> Tensor:
        return self._dropped(x, op.p, (x.shape[0], *(1 for _ in x.shape[1:])))

    # ------------------------------------------------------------ merge

    def _add(self, op: Any, path: str, *tensors: Tensor) -> Tensor:
        return total(tensors)

    def _mul(self, op: Any, path: str, *tensors: Tensor) -> Tensor:
        product = tensors[0]
        for x in tensors[1:]:
            product = product * x
        return product

    def _sub(self, op: Any, path: str, *tensors: Tensor) -> Tensor:
        return tensors[0] - total(tensors[1:])

    def _div(self, op: Any, path: str, *tensors: Tensor) -> Tensor:
        return functools.reduce(lambda a, b: a / b, tensors)

    def _maximum(self, op: Any, path: str, *tensors: Tensor) -> Tensor:
        largest = tensors[0]
        for x in tensors[1:]:
            largest = torch.maximum(largest, x)
        return largest

    def _mean(self, op: Any, path: str, *tensors: Tensor) -> Tensor:
        return total(tensors) / len(tensors)

    def _concat(self, op: Any, path: str, *tensors: Tensor) -> Tensor:
        return torch.cat(tensors, op.axis + 1)

    # ------------------------------------------------------------ align, edges and resizing

    def _align(self, op: Any, path: str, *tensors: Tensor) -> list[Tensor]:
        if op.mode == "resize":
            size = tensors[0].shape[2:]
            return [tensors[0], *(resized(x, size, "linear") for x in tensors[1:])]
        choose = min if op.mode == "crop" else max
        found = []
        for x in tensors:
            for axis in range(2, x.ndim):
                size, now = choose(y.shape[axis] for y in tensors), x.shape[axis]
                if op.mode == "crop":
                    x = x.narrow(axis, (now - size) // 2, size)
                else:
                    before = (size - now) // 2
                    x = pad_axis(x, axis, before, size - now - before, "zeros", 0.0)
            found.append(x)
        return found

    def _pad_to_multiple(self, op: Any, path: str, x: Tensor) -> Tensor:
        sizes = each(op.size, x.ndim - 2)
        return padded(x, [0] * len(sizes), [-n % m for n, m in zip(x.shape[2:], sizes, strict=True)], "zeros")

    def _crop(self, op: Any, path: str, x: Tensor) -> Tensor:
        behind = each(op.n if op.after is None else op.after, x.ndim - 2)
        for axis, (n, m) in enumerate(zip(each(op.n, x.ndim - 2), behind, strict=True), 2):
            x = x.narrow(axis, n, x.shape[axis] - n - m)
        return x

    def _pad(self, op: Any, path: str, x: Tensor) -> Tensor:
        behind = each(op.n if op.after is None else op.after, x.ndim - 2)
        return padded(x, each(op.n, x.ndim - 2), behind, op.mode)

    def _upsample(self, op: Any, path: str, x: Tensor) -> Tensor:
        factors = each(op.scale, x.ndim - 2)
        if op.mode == "nearest":
            for axis, factor in enumerate(factors, 2):
                x = x.repeat_interleave(factor, axis)
            return x
        return resized(x, [n * f for n, f in zip(x.shape[2:], factors, strict=True)], op.mode, op.align_corners)

    def _resize(self, op: Any, path: str, x: Tensor) -> Tensor:
        to = [dims.evaluate(d, self.sizes) for d in each(op.to, x.ndim - 2)]
        return resized(x, to, op.mode, op.align_corners)

    def _pixel_shuffle(self, op: Any, path: str, x: Tensor) -> Tensor:
        """Channel c · r^rank + k moves to position k of each cell, counted row by row."""
        r, axes = op.r, x.ndim - 2
        out = x.new_zeros(x.shape[0], x.shape[1] // r**axes, *(n * r for n in x.shape[2:]))
        for k in range(r**axes):
            out[(slice(None), slice(None), *cell(k, r, axes))] = x[:, k :: r**axes]
        return out

    def _pixel_unshuffle(self, op: Any, path: str, x: Tensor) -> Tensor:
        axes = x.ndim - 2
        parts = [x[(slice(None), slice(None), *cell(k, op.r, axes))] for k in range(op.r**axes)]
        return torch.stack(parts, 2).flatten(1, 2)

    # ------------------------------------------------------------ channels and shape

    def _split(self, op: Any, path: str, x: Tensor) -> list[Tensor]:
        size = x.shape[op.axis + 1]
        parts = op.n if isinstance(op.n, tuple) else (size // op.n,) * op.n
        return [x.narrow(op.axis + 1, sum(parts[:i]), part) for i, part in enumerate(parts)]

    def _slice(self, op: Any, path: str, x: Tensor) -> Tensor:
        places = range(x.shape[op.axis + 1])[op.start : op.stop : op.step]
        return x.index_select(op.axis + 1, torch.tensor(places))

    def _channel_shuffle(self, op: Any, path: str, x: Tensor) -> Tensor:
        """Channel j of group i goes to j · groups + i."""
        size = x.shape[1] // op.groups
        return x[:, [i * size + j for j in range(size) for i in range(op.groups)]]

    def _scale(self, op: Any, path: str, x: Tensor) -> Tensor:
        return x * channels(self.state[path], x)

    def _flatten(self, op: Any, path: str, x: Tensor) -> Tensor:
        return x.reshape(x.shape[0], -1)

    def _reshape(self, op: Any, path: str, x: Tensor) -> Tensor:
        return x.reshape(x.shape[0], *op.sizes)

    def _permute(self, op: Any, path: str, x: Tensor) -> Tensor:
        return x.permute(0, *(a + 1 for a in op.axes))


def window_places(op: Any, x: Tensor) -> tuple[list[list[Tensor]], list[int]]:
    """The positions of every window on each axis of a map, and the sizes that they cover."""
    axes = x.ndim - 2
    shifts = each(getattr(op, "shift", None) or 0, axes)
    places, sizes = [], []
    for length, size, shift in zip(x.shape[2:], each(op.size, axes), shifts, strict=True):
        count = math.ceil(length / size)
        moved = shift if count > 1 else 0
        if op.name == "grid":
            places.append([torch.arange(size) * count + i for i in range(count)])
        else:
            places.append([(torch.arange(size) + i * size + moved) % (count * size) for i in range(count)])
        sizes.append(count * size)
    return places, sizes


def attended(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    heads: int,
    scale: Any,
    causal: bool,
    keep: Tensor | None,
    bias: Tensor | None,
    softened: Callable[[Tensor], Tensor],
) -> Tensor:
    """The means of the values of [N, T, C], head by head; `keep` are factors of the weights, `bias` is added before."""
    found = []
    parts = [x.split(x.shape[2] // heads, 2) for x in (q, k, v)]
    for head, (query, key, value) in enumerate(zip(*parts, strict=True)):
        factor = scale[head] if isinstance(scale, Tensor) else scale
        scores = factor * torch.einsum("nqc,nkc->nqk", query, key)
        if bias is not None:
            scores = scores + bias[:, head if bias.shape[1] > 1 else 0]
        if causal:
            behind = torch.arange(scores.shape[2]) > torch.arange(scores.shape[1])[:, None]
            scores = torch.where(behind, -math.inf, scores)
        weights = softened(scores)
        weights = weights if keep is None else weights * keep[:, head]
        found.append(torch.einsum("nqk,nkc->nqc", weights, value))
    return torch.cat(found, 2)


def softmax(scores: Tensor) -> Tensor:
    powers = torch.exp(scores - scores.detach().amax(-1, keepdim=True))
    return powers / powers.sum(-1, keepdim=True)


def each(value: Any, axes: int) -> tuple[Any, ...]:
    """One number per axis."""
    return tuple(value) if isinstance(value, tuple | list) else (value,) * axes


def channels(weight: Tensor, x: Tensor) -> Tensor:
    """A weight with one number per channel, for a tensor with a batch and that many axes."""
    return weight.reshape(1, -1, *(1 for _ in x.shape[2:]))


def all_but_first(x: Tensor) -> tuple[int, ...]:
    return tuple(range(1, x.ndim))


def total(tensors: Sequence[Tensor]) -> Tensor:
    found = tensors[0]
    for x in tensors[1:]:
        found = found + x
    return found


def pool_numbers(op: Any, x: Tensor, dilation: Any) -> tuple[tuple[int, ...], ...]:
    """Kernel, stride and dilation of each axis."""
    kernel = each(op.kernel, x.ndim - 2)
    return kernel, kernel if op.stride is None else each(op.stride, x.ndim - 2), each(dilation, x.ndim - 2)


def margins(
    pad: Any, kernel: Sequence[int], stride: Sequence[int], dilation: Sequence[int], x: Tensor
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The padding before and after each spatial axis."""
    reach = [d * (k - 1) for k, d in zip(kernel, dilation, strict=True)]
    if pad == "same_upper":  # ⌈n / stride⌉ outputs
        both = [max((-(-n // s) - 1) * s + r + 1 - n, 0) for n, s, r in zip(x.shape[2:], stride, reach, strict=True)]
        return tuple(b // 2 for b in both), tuple(b - b // 2 for b in both)
    if pad == "causal":
        return tuple(reach), (0,) * len(reach)
    named = {"valid": [0 for _ in reach], "same": [r // 2 for r in reach], "full": reach}
    sides = tuple(named[pad]) if isinstance(pad, str) else each(pad, len(reach))
    return sides, sides


def padded(x: Tensor, before: Sequence[int], after: Sequence[int], mode: str, value: float = 0.0) -> Tensor:
    for axis, (a, b) in enumerate(zip(before, after, strict=True), 2):
        x = pad_axis(x, axis, a, b, mode, value)
    return x


def pad_axis(x: Tensor, axis: int, before: int, after: int, mode: str, value: float) -> Tensor:
    if before == after == 0:
        return x
    n = x.shape[axis]
    if mode == "zeros":
        sides = [x.new_full([*x.shape[:axis], count, *x.shape[axis + 1 :]], value) for count in (before, after)]
        return torch.cat([sides[0], x, sides[1]], axis)
    places = range(-before, n + after)
    taken = {
        "replicate": [min(max(i, 0), n - 1) for i in places],
        "reflect": [-i if i < 0 else i if i < n else 2 * (n - 1) - i for i in places],
        "circular": [i % n for i in places],
    }[mode]
    return x.index_select(axis, torch.tensor(taken))


def resized(x: Tensor, size: Sequence[int], mode: str, aligned: bool = False) -> Tensor:
    """Copies (`nearest`), or interpolation; linear along each axis under any of its names.

    Linear interpolation between aligned corners is made of the two neighbours of each position.
    """
    if aligned and mode != "bicubic":
        for axis, to in enumerate(size, 2):
            n = x.shape[axis]
            places = [i * (n - 1) / (to - 1) if to > 1 else 0.0 for i in range(to)]
            low = torch.tensor([min(int(place), n - 1) for place in places])
            rest = torch.tensor(places, dtype=x.dtype) - low
            rest = rest.reshape(-1, *(1 for _ in x.shape[axis + 1 :]))
            x = x.index_select(axis, low) * (1 - rest) + x.index_select(axis, (low + 1).clamp(max=n - 1)) * rest
        return x
    if mode == "nearest":
        for axis, to in enumerate(size, 2):
            n = x.shape[axis]
            x = x.index_select(axis, torch.tensor([i * n // to for i in range(to)]))
        return x
    if mode != "bicubic":
        mode = ("linear", "bilinear", "trilinear")[x.ndim - 3]
    return F.interpolate(x, size=tuple(size), mode=mode, align_corners=aligned)


def cell(k: int, r: int, axes: int) -> tuple[slice, ...]:
    """Every r-th element along each axis, from position k of the cell, counted row by row."""
    return tuple(slice(k // r ** (axes - 1 - a) % r, None, r) for a in range(axes))
