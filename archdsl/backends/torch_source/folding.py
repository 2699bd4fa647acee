"""The function of an inference form that makes its weights from those of the training form."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from archdsl.backends.python import tree as py
from archdsl.backends.python.printer import literal
from archdsl.backends.python.templates import code
from archdsl.graph import Node
from archdsl.transform.inference import Folding

FUNCTION = "fold_batchnorms"

RENAMED = '''def renamed(key: str) -> str:
    """A key of the training form as this form has it."""
    path = key.split(".")
    for end in range(len(path), 0, -1):
        old = ".".join(path[:end])
        if old in RENAMED:
            return ".".join([RENAMED[old], *path[end:]])
    return key'''

SAYS = (
    "In evaluation a batchnorm is a factor and a shift for each channel, which the convolution before it takes into "
    "its weight and bias (Ioffe and Szegedy, 2015)."
)

BY_ENDS = """folded, norms = dict(state), set()
for norm in [k.rpartition(".")[0] for k in state if k.endswith(".running_var")]:
    end = next((e for e in FOLDED if f".{norm}".endswith(f".{e}")), None)
    if end is None:
        continue
    conv = norm.removesuffix(end) + FOLDED[end]
    weight = state[f"{conv}.weight"]
    std = torch.sqrt(state[f"{norm}.running_var"] + EPS)
    factor = state[f"{norm}.weight"] / std
    shift = state[f"{norm}.bias"] - state[f"{norm}.running_mean"] * factor
    bias = state.get(f"{conv}.bias", torch.zeros_like(factor))
    folded[f"{conv}.weight"] = weight * factor.reshape(-1, *[1] * (weight.ndim - 1))
    folded[f"{conv}.bias"] = bias * factor + shift
    norms.add(norm)"""

FIND_BY_END = """    end = next((e for e in FOLDED if f".{norm}".endswith(f".{e}")), None)
    if end is None:
        continue
    conv = norm.removesuffix(end) + FOLDED[end]
"""

FIND_BY_PATH = """    conv = FOLDED.get(norm)
    if conv is None:
        continue
"""

CHANNELS_SAY = (
    "Batchnorms, the first channel, the convolution that takes it in, its first channel, how many channels, eps, and "
    "the groups of a transposed convolution."
)

ENDS = 32
"""With more ends than these the paths are written out whole, so that none has to be looked for."""

BY_CHANNELS = """folded, norms = dict(state), {row[0] for row in FOLDED}
for norm, at, conv, start, count, eps, groups in FOLDED:
    taken, given = slice(at, at + count), slice(start, start + count)
    mean = state[f"{norm}.running_mean"][taken]
    factor = torch.rsqrt(state[f"{norm}.running_var"][taken] + eps)
    shift = -mean * factor
    if f"{norm}.weight" in state:
        factor = factor * state[f"{norm}.weight"][taken]
        shift = state[f"{norm}.bias"][taken] - mean * factor
    weight = folded[f"{conv}.weight"].clone()
    if groups:  # a transposed convolution, whose output channels are not first
        weight = weight.reshape(groups, -1, *weight.shape[1:])
        weight = weight.transpose(1, 2).flatten(0, 1)
    bias = folded.get(f"{conv}.bias", weight.new_zeros(len(weight))).clone()
    weight[given] *= factor.reshape(-1, *[1] * (weight.ndim - 1))
    bias[given] = bias[given] * factor + shift
    if groups:
        weight = weight.reshape(groups, -1, *weight.shape[1:])
        weight = weight.transpose(1, 2).flatten(0, 1)
    folded[f"{conv}.weight"], folded[f"{conv}.bias"] = weight, bias"""


def folding_function(folding: Folding) -> list[py.Statement]:
    """The tables and functions; none where a state_dict of the training form fits as it is."""
    if not folding.changes:
        return []
    parts: list[py.Statement] = []
    body: list[py.Statement] = []
    source, key, condition = "state", code("k"), None
    if folding.folded:
        source, condition = "folded", code('k.rpartition(".")[0] not in norms')
        ends = _by_ends(folding)
        if ends is not None:
            table, eps, whole = ends
            parts.append(py.Assign(py.Var("FOLDED"), _table(table)))
            by = "their paths" if whole else "the ends of their paths"
            parts.append(py.Doc(f"Batchnorms and the convolutions that take them in, by {by}."))
            text = BY_ENDS.replace(FIND_BY_END, FIND_BY_PATH) if whole else BY_ENDS
            body = [py.Source(text.replace("EPS", literal(eps)))]
        else:
            parts.append(py.Assign(py.Var("FOLDED"), py.Tuple(tuple(map(py.Const, dict.fromkeys(_rows(folding)))))))
            parts.append(py.Doc(CHANNELS_SAY))
            body = [py.Source(BY_CHANNELS)]
    if folding.renamed:
        parts.append(py.Assign(py.Var("RENAMED"), _table(folding.renamed)))
        parts += [py.Doc("Members that moved up, by their paths in the training form."), py.Source(RENAMED)]
        key = code("renamed(k)")
    if folding.dropped:
        parts.append(py.Assign(py.Var("DROPPED"), py.Tuple(tuple(py.Const(f"{path}.") for path in folding.dropped))))
        parts.append(py.Doc("Members that only outputs of training need."))
        body.insert(0, py.Source('state = {k: v for k, v in state.items() if not f"{k}.".startswith(DROPPED)}'))
    pairs = py.Row((py.Var("k"), py.Var("v")))
    weights = py.Comprehension(py.Pair(key, py.Var("v")), pairs, code(f"{source}.items()"), condition, "{}")
    doc = "The weights of this form, from the state_dict of the training form."
    doc += f"\n\n{SAYS}" if folding.folded else ""
    taken, given = py.Parameter("state", code("Mapping[str, Tensor]")), code("dict[str, Tensor]")
    return [*parts, py.Function(FUNCTION, [taken], given, [py.Doc(doc), *body, py.Do(weights, "return")])]


def _table(rows: Mapping[str, str]) -> py.Expr:
    return py.Dict(tuple(py.Pair(py.Const(a), py.Const(b)) for a, b in rows.items()))


def _by_ends(folding: Folding) -> tuple[dict[str, str], float, bool] | None:
    """For the end of a batchnorm's path that of its convolution, where that is unique; eps; if it is whole."""
    graph = folding.training
    pairs: dict[str, str] = {}
    eps: set[float] = set()
    for norm, parts in folding.folded.items():
        (first, *others) = parts
        factor = norm.operation.channel_factor()
        assert factor is not None
        if others or not factor.affine or first.convolution.operation.transposed_groups():
            return None
        if first.count != _outputs(first.convolution):
            return None
        pairs[norm.path] = first.convolution.path
        eps.add(factor.eps)
    if len(eps) > 1 or len(set(pairs.values())) < len(pairs):
        return None
    norms = [n.path for n in graph.nodes() if n.operation.channel_factor() is not None]
    ends = dict(_end(a, b) for a, b in pairs.items())
    if len(ends) > ENDS:
        return pairs, eps.pop(), True
    for table in (ends, pairs):
        if all(_found(table, norm) == pairs.get(norm) for norm in norms):
            return table, eps.pop(), False
    return None


def _outputs(node: Node) -> object:
    shape = node.shapes[0]
    assert isinstance(shape, tuple)
    return shape[0]


def _end(norm: str, conv: str) -> tuple[str, str]:
    """Both paths without what they have in common at the start, but for one name before a mere position."""
    a, b = norm.split("."), conv.split(".")
    while len(a) > 1 and len(b) > 1 and a[0] == b[0] and not (len(a) == 2 and a[1].isdigit()):
        a, b = a[1:], b[1:]
    return ".".join(a), ".".join(b)


def _found(table: Mapping[str, str], norm: str) -> str | None:
    """The result of the file's own function for a batchnorm's path."""
    end = next((e for e in table if f".{norm}".endswith(f".{e}")), None)
    return None if end is None else norm.removesuffix(end) + table[end]


def _rows(folding: Folding) -> Iterator[tuple[object, ...]]:
    for norm, parts in folding.folded.items():
        factor = norm.operation.channel_factor()
        assert factor is not None
        for part in parts:
            conv, groups = part.convolution, part.convolution.operation.transposed_groups()
            yield (norm.path, part.at, conv.path, part.start, part.count, factor.eps, groups)


__all__ = ["FUNCTION", "folding_function"]
