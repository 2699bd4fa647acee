"""A layer, a block or a model told in words and numbers, for a reader who learns."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from fractions import Fraction
from itertools import groupby
from math import prod

from archdsl.diagnostics import Diagnostics, did_you_mean
from archdsl.graph import Graph, Node, Scope, Tensor
from archdsl.layers import Layers, Options, describe
from archdsl.ops.conv import Conv, Linear, Upconv
from archdsl.ops.norm import Batchnorm
from archdsl.ops.pool import AdaptivePool, Avgpool, Maxpool
from archdsl.units import bytes_text, count_text

DRAWN = 12
"""A matrix is drawn up to so many rows and columns."""

AXES = {1: ("length",), 2: ("height", "width"), 3: ("depth", "height", "width")}

OUTSIDE: Mapping[str, str] = {
    "zeros": "x is 0 (padding)",
    "replicate": "x is what stands at the edge (padding)",
    "reflect": "x is the image in a mirror (padding)",
    "circular": "x goes on from the other side (padding)",
}
"""What a convolution reads outside of the image, by its `pad_mode`."""

FORMULAS: Mapping[str, str] = {
    "relu": "y = max(x, 0)",
    "relu6": "y = min(max(x, 0), 6)",
    "sigmoid": "y = 1 / (1 + exp(-x))",
    "tanh": "y = tanh(x)",
    "gelu": "y = x · Φ(x), Φ the normal distribution function",
    "silu": "y = x / (1 + exp(-x))",
    "softmax": "y_c = exp(x_c) / Σ_k exp(x_k), over the channels",
    "add": "y = a + b: the gradient of y goes to each of them as it is",
    "mul": "y = a · b: the gradient of a is that of y times b, and the other way round",
    "concat": "y = [a; b]: the channels behind each other; each gets its part of the gradient",
    "dropout": "y = x · m / (1 - p) while training, each m is 0 with probability p and else 1; y = x afterwards",
    "flatten": "the same numbers in one row",
    "batchnorm": "y = γ · (x - mean) / √(σ² + ε) + β, for each channel by itself",
}


def explain(graph: Graph, path: str | None = None, sizes: Mapping[str, int] | None = None) -> str:
    """The explanation of a model, or of the layer or block at a path in it. Raises SpecError for an unknown path."""
    teller = Teller(Layers(graph, Options(sizes or graph.examples)))
    part = graph.root if path is None else find(graph, path)
    return "\n".join(teller.part(part)) + "\n"


def find(graph: Graph, path: str) -> Node | Scope:
    found: list[Node | Scope] = [*graph.nodes(), *graph.root.scopes()]
    parts = {p.path: p for p in found if p.path}
    if path in parts:
        return parts[path]
    diagnostics = Diagnostics()
    known = did_you_mean(path, parts) or f"`archdsl show` lists the paths; the first are {', '.join(list(parts)[:5])}"
    diagnostics.error("E0204", f"`{graph.name}` has nothing at the path `{path}`", help=known)
    diagnostics.stop_on_errors()
    raise AssertionError


class Teller:
    """Tells of the parts of one network. Free sizes have the values of `layers.sizes`."""

    def __init__(self, layers: Layers) -> None:
        self.layers = layers
        self.graph = layers.graph

    def part(self, part: Node | Scope) -> Iterator[str]:
        if isinstance(part, Node):
            yield from self.node(part)
        elif part is self.graph.root:
            yield from self.model(part)
        else:
            yield from self.scope(part)

    # ------------------------------------------------------------ a layer

    def node(self, node: Node) -> Iterator[str]:
        incoming = [self.layers.costs.shape(t) for t in node.inputs]
        output = self.layers.costs.shapes[node.id][0]
        rank = len((incoming or [output])[0]) - 1
        yield f"{node.path}: {node.operation.caption(rank)}"
        yield f"    {'; '.join(map(bracketed, incoming)) or 'the network'} → {bracketed(output)}{self.where}"
        doc = (type(node.operation).__doc__ or "").strip().partition("\n")[0]
        yield f"    {doc}"
        match node.operation:
            case Conv() as conv:
                yield from self.convolution(conv, incoming[0], output)
            case Upconv() as upconv:
                yield from self.transposed(upconv, incoming[0], output)
            case Linear() as full:
                yield from linear(incoming[0], output, full.bias)
            case Batchnorm() as norm:
                yield from batchnorm(norm, incoming[0])
            case Maxpool() | Avgpool() as pool:
                yield from pooling(pool, incoming[0], output)
            case AdaptivePool():
                yield from titled("output size", "what is asked for, whatever comes in: the windows adapt to it")
            case operation if operation.name in FORMULAS:
                yield from titled("formula", FORMULAS[operation.name])
        yield from self.cost(node)
        yield from self.sight(Tensor(node.id))

    @property
    def where(self) -> str:
        return f", at {self.layers.at}" if self.graph.free else ""

    def convolution(self, conv: Conv, shape: Sequence[int], output: Sequence[int]) -> Iterator[str]:
        window = conv.window((tuple(shape),))
        kernel, groups = window.kernel, conv.groups
        axes = "ij"[: len(kernel)] if len(kernel) < 3 else "hij"
        places = ", ".join(
            f"{times(s, a)}{times(d, u, plus=True)}{minus(p)}"
            for a, u, s, d, p in zip(axes, "uvw", window.stride, window.dilation, window.pad, strict=False)
        )
        taps = ", ".join("uvw"[: len(kernel)])
        seen = "the channels c of its group" if groups > 1 else f"all {shape[0]} channels c"
        bias = " + b[o]" if conv.bias else ""
        yield from titled(
            "formula",
            f"y[o, {', '.join(axes)}] = Σ_c Σ_{taps.replace(', ', '')} w[o, c, {taps}] · x[c, {places}]{bias}",
            f"over {seen} and the {'×'.join(map(str, kernel))} places of the kernel"
            + (f"; outside of the image {OUTSIDE[conv.pad_mode]}" if any(window.pad) else ""),
            *(["flipped: w is read from its end, as signal processing defines the convolution"] if conv.flip else []),
        )
        yield from titled("output size", *size_lines(conv, shape, output))
        weights = conv.weights((tuple(shape),))
        each = prod(weights[0].shape)
        full = prod(shape) * prod(output)
        lines = [
            f"{output[0]} kernels of {' × '.join(map(str, weights[0].shape[1:]))} = {each:,} numbers"
            + (f", and {output[0]} biases" if conv.bias else "")
            + ("" if conv.trainable else "; they are frozen"),
            f"a fully connected layer between the same sizes: {prod(shape):,} × {prod(output):,} = {full:,} weights,"
            f" {full / each:,.0f} times as many"
            if full > each
            else "a fully connected layer between them has as many",
        ]
        yield from titled("weights", *lines)
        yield from toeplitz(conv, shape, output, groups)

    def transposed(self, upconv: Upconv, shape: Sequence[int], output: Sequence[int]) -> Iterator[str]:
        weight = upconv.weights((tuple(shape),))[0]
        biases = f", and {output[0]} biases" if upconv.bias else ""
        yield from titled(
            "formula",
            "every element paints the kernel, times itself, onto the output; what overlaps adds up",
            "the matrix of this layer is that of a convolution, transposed: where that gathers, this spreads",
        )
        stride, kernel = upconv.window((tuple(shape),)).scale, weight.shape[2:]
        dilation = upconv.window((tuple(shape),)).dilation
        lines = [
            f"{name}: ({n} - 1) · {s} + {d} · ({k} - 1) + 1{rest(o - (n - 1) * s - d * (k - 1) - 1)} = {o}"
            for name, n, s, d, k, o in zip(
                AXES[len(kernel)], shape[1:], stride, dilation, kernel, output[1:], strict=True
            )
        ]
        padded = upconv.pad or upconv.output_pad
        more = ["(last: output_pad less the padding on both sides)"] if padded else []
        yield from titled("output size", *lines, *more)
        yield from titled("weights", f"{' × '.join(map(str, weight.shape))} = {prod(weight.shape):,} numbers{biases}")

    def cost(self, part: Node | Scope) -> Iterator[str]:
        cost, formulas = self.layers.costs[part], self.layers.formulas[part]
        lines = [f"{cost.parameters:,} parameters, {self.layers.costs[part].macs:,} multiply-accumulates a sample"]
        total = self.layers.costs.total
        if cost.macs and total.macs:
            lines[0] += f" ({cost.macs / total.macs:.1%} of the network's)"
        elements = formulas.elements.at(self.layers.sizes)
        lines.append(f"its results hold {elements:,} numbers, {bytes_text(4 * elements)} in float32")
        yield from titled("cost", *lines)

    def sight(self, tensor: Tensor) -> Iterator[str]:
        found = self.layers.fields[tensor]
        for source, axes in (found or {}).items():
            told = describe(axes, self.layers.fields.shape(tensor))
            name = self.graph.node(source).name
            if told["field"] == "everything":
                yield from titled("receptive field", f"all of `{name}`")
                continue
            along = " along each axis" if len(axes) > 1 else ""
            lines = [f"each element sees {told['field']} elements of `{name}`{along}"]
            if "varies" in told["stride"]:
                lines.append("through branches of unlike strides: how far the next one's field lies varies")
            elif told["stride"]:
                lines.append(
                    f"the next one's field lies {told['stride']} further; the first one's centre is at {told['offset']}"
                )
            yield from titled("receptive field", *lines)

    # ------------------------------------------------------------ a block

    def scope(self, scope: Scope) -> Iterator[str]:
        what = scope.definition.name if scope.definition else "a part of the network"
        shapes = [bracketed(self.layers.costs.shape(t)) for t in scope.inputs]
        outputs = [bracketed(self.layers.costs.shape(t)) for t in scope.outputs]
        yield f"{scope.path}: {what}"
        yield f"    {', '.join(shapes)} → {', '.join(outputs)}{self.where}"
        if scope.definition is not None and scope.definition.syntax.doc:
            for line in scope.definition.syntax.doc.strip().splitlines():
                yield f"    {line.strip()}"
        yield from titled("members", *self.members(scope))
        for node in scope.nodes():
            if node.operation.name == "add" and node.scope is scope and len(node.inputs) == 2:
                yield from self.residual(node)
        yield from self.cost(scope)
        if scope.outputs:
            yield from self.sight(scope.outputs[0])

    def residual(self, add: Node) -> Iterator[str]:
        """The two ways of a gradient through a residual block."""
        inside, projected = self.ways(add)
        if inside is None:
            return
        skip = "A h" if projected else "h"
        back = f"Aᵀ dL/dy + Jᵀ dL/dy, A the matrix of {projected}" if projected else "dL/dy + Jᵀ dL/dy"
        whose = "a projection of h" if projected else "h"
        lines = [
            f"y = {skip} + NN(h): the block learns what to add to {whose}, not y itself",
            f"the gradient comes back on two paths: dL/dh = {back}, J the derivative of NN",
        ]
        if projected:
            lines.append("the short path holds one linear map (and what normalises it), and no activation")
        else:
            lines.append(
                "the short path is the identity: whatever NN does, dL/dy arrives whole, so depth costs no gradient"
            )
        lines.append(f"the long path: {inside}")
        yield from titled("two paths", *lines)

    def ways(self, add: Node) -> tuple[str | None, str | None]:
        """What stands on the long way to an add, and on the short one if anything does."""
        a, b = (self.chain(t, add.scope) for t in add.inputs)
        if a and b and len(a) == len(b):
            return None, None
        short, long = sorted((a, b), key=len)
        told = " → ".join(f"{n.operation.caption(max(1, len(self.layers.costs.shapes[n.id][0]) - 1))}" for n in long)
        return (told or None), (" → ".join(n.path for n in short) or None)

    def chain(self, tensor: Tensor, scope: Scope) -> list[Node]:
        """The nodes up to a tensor, back to where the way forks or leaves the scope."""
        found: list[Node] = []
        inputs = set(scope.inputs)
        while tensor not in inputs:
            node = self.graph.node(tensor)
            if scope not in node.scope.calls() or len(node.inputs) != 1:
                break
            if found and len(list(self.graph.net.successors(node.id))) > 1:
                break
            found.append(node)
            tensor = node.inputs[0]
        return found[::-1]

    def members(self, scope: Scope) -> Iterator[str]:
        """A line each; alike ones in a row are one."""
        rows: list[tuple[str, str, str, int]] = []
        for member in scope.members:
            if isinstance(member, Node):
                shape = self.layers.costs.shapes[member.id][0]
                what = member.operation.caption(max(1, len(shape) - 1))
            else:
                what = member.definition.name if member.definition else "{ … }"
                shape = self.layers.costs.shape(member.outputs[0]) if member.outputs else ()
            row = (member.name, what, bracketed(shape), self.layers.costs[member].macs)
            if rows and rows[-1][1:] == row[1:]:
                rows[-1] = (f"{rows[-1][0].partition(' … ')[0]} … {member.name}", *row[1:])
            else:
                rows.append(row)
        width = max((len(r[0]) for r in rows), default=0)
        column = max((len(r[1]) for r in rows), default=0)
        for name, what, text, macs in rows:
            tail = f"  {count_text(macs)} MACs" if macs else ""
            yield f"{name:{width}}  {what:{column}}  → {text}{tail}"

    # ------------------------------------------------------------ a model

    def model(self, root: Scope) -> Iterator[str]:
        total = self.layers.costs.total
        inputs = ", ".join(f"{n.name} {bracketed(self.layers.costs.shapes[n.id][0])}" for n in self.graph.input_nodes)
        outputs = ", ".join(
            f"{o.name} {bracketed(self.layers.costs.shape(o.tensor))}".removeprefix("None ") for o in self.graph.outputs
        )
        yield f"{self.graph.name}: {inputs} → {outputs}{self.where}"
        if root.definition is not None and root.definition.syntax.doc:
            for line in root.definition.syntax.doc.strip().splitlines():
                yield f"    {line.strip()}"
        learned = sum(1 for n in self.graph.nodes() if isinstance(n.operation, Conv | Upconv | Linear))
        joins = sum(1 for n in self.graph.nodes() if n.operation.family == "merge")
        yield from titled(
            "in numbers",
            f"{learned} layers that multiply by learned weights, {joins} joins of branches",
            f"{total.parameters:,} parameters, {total.macs:,} multiply-accumulates a sample",
        )
        yield from titled("stages", *self.stages(root))

    def stages(self, root: Scope) -> Iterator[str]:
        """The story: where the resolution changes, and what happens there."""
        total = self.layers.costs.total
        for parts in self.runs(root):
            first, last = parts[0], parts[-1]
            tensors = [t for part in parts for t in results(part)]
            sizes = list(dict.fromkeys("×".join(map(str, self.layers.costs.shape(t)[1:])) or "flat" for t in tensors))
            channels = [self.layers.costs.shape(t)[0] for t in tensors]
            span = first.path if first is last else f"{first.path} … {last.path}"
            yield f"{sizes[0] if len(sizes) == 1 else f'{sizes[0]} … {sizes[-1]}'}: {span}"
            nodes = [n for part in parts for n in ([part] if isinstance(part, Node) else part.nodes())]
            layers = sum(isinstance(n.operation, Conv | Upconv | Linear) for n in nodes)
            macs = sum(self.layers.costs[p].macs for p in parts)
            parameters = sum(self.layers.costs[p].parameters for p in parts)
            told = [
                f"channels {' → '.join(str(c) for c, _ in groupby(channels))}"
                if len(set(channels)) < 6
                else f"channels {channels[0]} → … → {channels[-1]}"
            ]
            if layers:
                share = f"{macs / total.macs:.0%} of the MACs, " if total.macs else ""
                told.append(f"weighted layers: {layers}, {share}{parameters / total.parameters:.0%} of the parameters")
            yield f"    {'; '.join(told)}"
            field = self.layers.fields[tensors[-1]] or {}
            seen = {describe(axes, self.layers.fields.shape(tensors[-1]))["field"] for axes in field.values()}
            if layers and len(seen) == 1:
                yield f"    at its end an element sees {seen.pop()} of the input"

    def runs(self, root: Scope) -> Iterator[list[Node | Scope]]:
        """The layers and residual blocks in runs of one stride to the input."""
        run: list[Node | Scope] = []
        stride: set[Fraction] | str | None = None
        for part in self.units(root):
            field = self.layers.fields[results(part)[0]] or {}
            # What sees everything, by a gate say, and moves beside that, belongs where it moves.
            here = {Fraction(t.step, t.period) for axes in field.values() for a in axes for t in a.tracks if t.step}
            flat = len(self.layers.costs.shape(results(part)[0])) == 1 or not here
            mine: set[Fraction] | str = "flat" if flat else here
            if run and mine != stride:
                yield run
                run = []
            stride = mine
            run.append(part)
        if run:
            yield run

    def units(self, scope: Scope) -> Iterator[Node | Scope]:
        """The nodes within, but blocks that add a skip, or multiply by a gate, as a whole."""
        stack: list[Node | Scope] = [scope]
        while stack:
            part = stack.pop()
            whole = isinstance(part, Node) or (
                part is not scope
                and any(isinstance(m, Node) and m.operation.name in ("add", "mul") for m in part.members)
            )
            if whole:
                yield part
            elif isinstance(part, Scope):
                stack.extend(reversed(part.members))


def results(part: Node | Scope) -> list[Tensor]:
    """The tensors that a layer or block gives."""
    return [Tensor(part.id)] if isinstance(part, Node) else list(part.outputs)


# ---------------------------------------------------------------- words


def titled(title: str, *lines: str) -> Iterator[str]:
    yield f"  {title}"
    for line in lines:
        yield f"    {line}"


def bracketed(shape: Sequence[object]) -> str:
    return "[" + ", ".join(map(str, shape)) + "]"


def times(factor: int, name: str, *, plus: bool = False) -> str:
    return (" + " if plus else "") + (name if factor == 1 else f"{factor}{name}")


def rest(number: int) -> str:
    return f" {'+' if number > 0 else '-'} {abs(number)}" if number else ""


def minus(pad: int) -> str:
    return f" - {pad}" if pad > 0 else f" + {-pad}" if pad < 0 else ""


def size_lines(conv: Conv, shape: Sequence[int], output: Sequence[int]) -> Iterator[str]:
    window = conv.window((tuple(shape),))
    names = AXES[len(window.kernel)]
    for name, n, k, s, d, p, o in zip(
        names, shape[1:], window.kernel, window.stride, window.dilation, window.pad, output[1:], strict=True
    ):
        if conv.pad == "same_upper":
            yield f"{name}: ⌈{n} / {s}⌉ = {o}, with as much padding as that takes"
        else:
            yield f"{name}: ⌊({n} + 2·{p} - {d}·({k} - 1) - 1) / {s}⌋ + 1 = {o}"


def pooling(pool: Maxpool | Avgpool, shape: Sequence[int], output: Sequence[int]) -> Iterator[str]:
    window = pool.window((tuple(shape),))
    what = "the largest" if isinstance(pool, Maxpool) else "the mean"
    kernel = "×".join(map(str, window.kernel))
    back = "the largest gets the gradient" if isinstance(pool, Maxpool) else "each gets its share of the gradient"
    yield from titled("formula", f"{what} of each {kernel} window, channel by channel; {back}")
    names = AXES[len(window.kernel)]
    if pool.pad == "same_upper":
        lines = [
            f"{name}: ⌈{n} / {s}⌉ = {o}, with as much padding as that takes"
            for name, n, s, o in zip(names, shape[1:], window.stride, output[1:], strict=True)
        ]
    else:
        left, right = "⌈⌉" if pool.ceil else "⌊⌋"
        numbers = zip(
            names, shape[1:], window.kernel, window.stride, window.dilation, window.pad, output[1:], strict=True
        )
        lines = [
            f"{name}: {left}({n} + 2·{p} - {d}·({k} - 1) - 1) / {s}{right} + 1 = {o}"
            for name, n, k, s, d, p, o in numbers
        ]
        lines += ["(a window that would start behind the image is left out)"] if pool.ceil else []
    yield from titled("output size", *lines)


def linear(shape: Sequence[int], output: Sequence[int], bias: bool) -> Iterator[str]:
    term = " + b[o]" if bias else ""
    yield from titled(
        "formula", f"y[o] = Σ_i w[o, i] · x[i]{term}: every output sees every input, by a weight of its own"
    )
    count = shape[0] * output[0]
    biases = f"; with biases {count + output[0]:,}" if bias else ""
    yield from titled("weights", f"{shape[0]:,} × {output[0]:,} = {count:,}{biases}")


def batchnorm(norm: Batchnorm, shape: Sequence[int]) -> Iterator[str]:
    affine = (
        f"γ and β are learned, one each a channel: 2 × {shape[0]} numbers" if norm.affine else "without γ and β here"
    )
    places = prod(shape[1:])
    share = "the mean over all batches" if norm.momentum is None else f"{norm.momentum:g} of each new batch's"
    yield from titled(
        "formula",
        FORMULAS["batchnorm"],
        f"training: mean and variance σ² over the batch and {places:,} positions; ε = {norm.eps:g} keeps √ above 0",
        f"afterwards: the running mean and variance, which took {share}",
        affine,
        "then it is one factor and one term a channel: it can be folded into a convolution before it",
    )


# ---------------------------------------------------------------- the matrix of a convolution


def toeplitz(conv: Conv, shape: Sequence[int], output: Sequence[int], groups: int) -> Iterator[str]:
    """How the layer's matrix, from all inputs to all outputs, looks; drawn for one channel of a small signal."""
    rows, columns = prod(output), prod(shape)
    filled = nonzero(conv, shape, output) * shape[0] * output[0] // groups
    weights = prod(conv.weights((tuple(shape),))[0].shape)
    if not filled:
        return
    share, often = filled / (rows * columns), filled / weights
    lines = [f"as a matrix: {rows:,} × {columns:,}, of which {filled:,} entries are not zero ({share:.2g} of all)"]
    if conv.pad_mode != "zeros" and any(conv.window((tuple(shape),)).pad):
        lines.append("near the edges an entry is a sum of weights: of all that read the same element")
    elif filled > weights:
        lines.append(
            f"and those are {weights:,} different numbers, each {often:,.0f} times on average, along a diagonal"
        )
    else:
        lines.append("each of them a weight of its own")
    yield from titled("the Toeplitz view", *lines)
    if len(shape) == 2 and shape[1] <= DRAWN and output[1] <= DRAWN and conv.pad_mode == "zeros":
        yield from drawing(conv, shape, output)


def places(conv: Conv, shape: Sequence[int], output: Sequence[int]) -> Iterator[list[list[tuple[int, int]]]]:
    """For each axis and each output, the inputs inside that it reads and the kernel's place for each."""
    window = conv.window((tuple(shape),))
    for n, o, k, s, d, p in zip(
        shape[1:], output[1:], window.kernel, window.stride, window.dilation, window.pad, strict=True
    ):
        taps = ([(i * s - p + u * d, u) for u in range(k)] for i in range(o))
        yield [[(at, u) for t, u in row if (at := inside(t, n, conv.pad_mode)) is not None] for row in taps]


def inside(at: int, size: int, mode: str) -> int | None:
    """The element of the image that stands at a place of the padded one; None for a zero."""
    if 0 <= at < size:
        return at
    match mode:
        case "replicate":
            return min(max(at, 0), size - 1)
        case "reflect":
            return -at if at < 0 else 2 * (size - 1) - at
        case "circular":
            return at % size
    return None


def nonzero(conv: Conv, shape: Sequence[int], output: Sequence[int]) -> int:
    """Entries between one channel and another that a weight stands in."""
    window = conv.window((tuple(shape),))
    if max(*shape[1:], *output[1:], *window.kernel) > 4096:
        return 0
    return prod(sum(len({at for at, _ in row}) for row in axis) for axis in places(conv, shape, output))


def drawing(conv: Conv, shape: Sequence[int], output: Sequence[int]) -> Iterator[str]:
    """The matrix of one channel to one channel."""
    (axis,) = places(conv, shape, output)
    kernel = conv.window((tuple(shape),)).kernel[0]
    names = "abcdefghijkl" if kernel <= DRAWN else ""
    if not names:
        return
    names = names[:kernel][::-1] if conv.flip else names[:kernel]
    yield "    from one channel to one, with the kernel " + " ".join(sorted(names)) + ":"
    for row in axis:
        entries = ["·"] * shape[1]
        for place, tap in row:
            entries[place] = names[tap]
        yield "      " + " ".join(entries)


__all__ = ["explain"]
