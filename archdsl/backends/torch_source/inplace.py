"""Where the graph proves that a tensor may be overwritten: nothing else reads it, and no gradient needs it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from archdsl.backends.torch_source.flow import Call, Value
from archdsl.backends.torch_source.fold import Leaf
from archdsl.graph import Graph, Node, Scope, Tensor
from archdsl.ops.base import FunctionForm
from archdsl.recompute import inflow

FRESH = frozenset(
    [
        "conv",
        "upconv",
        "linear",
        "batchnorm",
        "layernorm",
        "groupnorm",
        "instancenorm",
        "add",
        "sub",
        "mul",
        "mean",
        "maximum",
        "concat",
        "scale",
        "maxpool",
        "avgpool",
        "adaptive_avgpool",
        "adaptive_maxpool",
        "global_avgpool",
        "global_maxpool",
        "upsample",
        "resize",
    ]
)
"""Operations whose result is a tensor of its own (no view of another) that their backward does not look at again."""

BY_RESULT = frozenset({"relu", "relu6", "leaky_relu", "elu", "selu"})
"""Activations whose gradient follows from their result, so that PyTorch keeps no copy of what they overwrite."""


@dataclass(slots=True, eq=False)
class InPlace:
    graph: Graph
    readers: Counter[Tensor]
    last_reader: dict[Tensor, int]

    @staticmethod
    def of(graph: Graph, recomputed: Iterable[Scope] = ()) -> InPlace:
        readers: Counter[Tensor] = Counter(t for node in graph.nodes() for t in node.inputs)
        readers.update(o.tensor for o in graph.outputs)
        for scope in recomputed:  # it reads what flows in once more
            readers.update(inflow(scope))
        last_reader = {t: node.id for node in graph.nodes() for t in node.inputs}
        last_reader.update((o.tensor, len(graph)) for o in graph.outputs)
        return InPlace(graph, readers, last_reader)

    def is_free(self, tensor: Tensor) -> bool:
        """Whether the one reader of a tensor may overwrite it."""
        return self.readers[tensor] == 1 and self.graph.node(tensor).operation.name in FRESH

    def activation(self, leaf: Leaf) -> bool:
        """Whether an activation overwrites its input, in all calls."""
        for step in leaf.steps:
            node = step.member
            if not isinstance(node, Node) or node.operation.name not in BY_RESULT:
                return False
            slope = getattr(node.operation, "slope", getattr(node.operation, "alpha", 0.0))
            if slope < 0 or not self.is_free(node.inputs[0]):
                return False
        return True

    def grown(self, call: Call) -> Value | None:
        """The operand that an addition or subtraction may add to: its last one where both may be."""
        form = call.leaf.steps[0].form
        if not isinstance(form, FunctionForm) or form.template not in ("{0} + {1}", "{0} - {1}"):
            return None
        places = (1, 0) if form.template == "{0} + {1}" else (0,)
        for place in places:
            value = call.inputs[place]
            same_size = all(
                self.graph.shape(s.inputs[place]) == self.graph.shape(s.outputs[0]) for s in call.leaf.steps
            )
            if (
                same_size
                and value is not call.inputs[1 - place]
                and all(self.is_free(s.inputs[place]) for s in call.leaf.steps)
            ):
                return value
        return None
