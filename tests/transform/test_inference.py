"""The inference form: its weights from those of the training form, and the same outputs."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

import pytest
import torch
from torch import Tensor, nn

from archdsl import dims
from archdsl.backends.torch_source import write_module
from archdsl.compiler import check
from archdsl.graph import Graph
from archdsl.graph import Tensor as Result
from archdsl.transform.inference import for_inference
from tests import published, random_blocks
from tests.helpers import graph_of, net_text, random_graph
from tests.modules import class_of, inputs, module_of


def source(graph: Graph) -> str:
    changed, folding = for_inference(graph)
    return write_module(changed, folding)


def both(graph: Graph, dtype: torch.dtype) -> tuple[nn.Module, nn.Module]:
    """The training form with statistics and weights of its own, in evaluation; the inference form with what becomes."""
    torch.manual_seed(0)
    constant = {w.key(node.path) for node, w in graph.weights() if w.dtype == "int64" and w.shape}
    made = class_of(graph)(device="cpu" if constant else "meta", dtype=dtype)
    plain = made.eval() if constant else made.to_empty(device="cpu").eval()
    for name, tensor in plain.state_dict().items():
        if name in constant:
            continue  # an index, which the module computes itself
        if name.endswith("running_var"):
            tensor.uniform_(0.5, 1.5)
        elif tensor.ndim > 1:
            tensor.normal_(std=(2 / tensor[0].numel()) ** 0.5)
        elif tensor.ndim:
            tensor.uniform_(-0.1, 0.1) if name.endswith(("bias", "mean")) else tensor.uniform_(0.8, 1.2)
        else:
            tensor.fill_(3)
    module, built = module_of(source(graph))
    form = built(device="meta", dtype=dtype).to_empty(device="cpu")
    fold: Callable[[dict[str, Tensor]], dict[str, Tensor]] = getattr(module, "fold_batchnorms", dict)
    form.load_state_dict(fold(plain.state_dict()))
    return plain, form


def agrees(graph: Graph) -> None:
    plain, form = both(graph, torch.double)
    with torch.no_grad():
        ours, theirs = form(*inputs(graph)), plain(*inputs(graph))
    given = [ours] if isinstance(ours, Tensor) else list(ours)
    wanted = [theirs] if isinstance(theirs, Tensor) else [x for x in theirs if x is not None]
    for a, b in zip(given, wanted, strict=True):
        torch.testing.assert_close(a, b)


def folds(text: str) -> tuple[int, str]:
    """How many batchnorms a model keeps, and its source."""
    graph = graph_of(text)
    agrees(graph)
    changed, _ = for_inference(graph)
    return sum(n.operation.name == "batchnorm" for n in changed.nodes()), source(graph)


BODIES = [
    ("conv(4, 3) -> batchnorm -> relu", 0),
    ("conv(4, 3, bias = false) -> batchnorm(affine = false)", 0),
    ("conv(4, 3) -> batchnorm(eps = 0.1) -> conv(4, 3) -> batchnorm", 0),
    ("conv(4, 3, groups = 2) -> batchnorm -> batchnorm", 0),
    ("conv(4, 3) -> identity -> batchnorm", 0),
    ("conv(4, 3) -> dropout(0.5) -> batchnorm -> dropout(0.5)", 0),
    ("upconv(6, 2, groups = 2) -> batchnorm", 0),
    ("upconv(6, 3, stride = 2, bias = false) -> batchnorm", 0),
    ("flatten -> linear(5) -> batchnorm", 0),
    ("(conv(3, 1), conv(5, 3)) -> concat -> batchnorm -> relu", 0),
    ("(conv(3, 1), conv(5, 3)) -> concat -> slice(1, 6) -> batchnorm", 0),
    ("(conv(3, 1), upconv(6, 1, groups = 2)) -> concat -> batchnorm -> split(3) -> concat -> batchnorm", 0),
    ("conv(6, 3) -> (a, b): split(2)\n (a -> batchnorm, b -> batchnorm(eps = 0.01)) -> concat", 0),
    ("conv(6, 3) -> (a, b): split(2)\n (a -> batchnorm, b) -> concat", 0),
    ("conv(6, 3, flip = true) -> crop(1) -> batchnorm", 0),
    ("conv(4, weight = [[1, -1]], flip = true, pad = full) -> batchnorm", 0),
    ("batchnorm -> conv(4, 3)", 1),  # before a padded convolution it cannot be folded
    ("conv(4, 3) -> relu -> batchnorm", 1),
    ("conv(4, 3) -> maxpool(2) -> batchnorm", 1),
    ("a: conv(4, 3) -> batchnorm\n (it, a) -> add", 1),  # its input is read elsewhere
    ("(conv(3, 1), maxpool(3, 1, 1)) -> concat -> batchnorm", 1),
    ("a: conv(4, 3)\n (a, a) -> concat -> batchnorm", 1),
    ("share a: conv(4, 3)\n (a, a) -> concat -> batchnorm", 1),
    ("share a: conv(4, 3)\n (a, a) -> concat -> batchnorm -> batchnorm", 2),
    ("residual { batchnorm -> relu -> conv(4, 3) -> batchnorm }", 1),
    ("dense { batchnorm -> relu -> conv(2, 3) }", 1),
]


@pytest.mark.parametrize(("body", "left"), BODIES)
def test_which_batchnorms_become_part_of_convolutions(body: str, left: int) -> None:
    found, text = folds(net_text(body, "x[4, 8, 8]"))
    assert found == left
    assert "Dropout" not in text and ("self.eval()" in text) is bool(left)


LABELS = """
    block unit(width) { conv(width, 3) -> batchnorm -> relu -> dropout(0.1) -> conv(width, 3) -> batchnorm }
    block gone { dropout(0.2) -> "x": batchnorm }
    model net {
        input x[3, 8, 8]
        a: conv(4, 3) -> gone
        unit(4) -> dropout(0.3) -> unit(6) -> scale
        mix: { dropout(0.1) -> "1": conv(4, 1) -> conv(4, 1) -> batchnorm -> scale }
        aux: unit(2) -> global_avgpool -> flatten -> side: linear(3)
        mix -> batchnorm -> logits: conv(5, 1) -> dropout(0.5) -> probabilities: softmax
        output probabilities, aux = side if training
    }
"""


def test_members_move_up_and_what_only_training_needs_is_gone() -> None:
    left, text = folds(LABELS)
    assert left == 1 and "RENAMED" in text and "NamedTuple" not in text and "aux" not in text.split("class Net")[1]


@pytest.mark.parametrize("spec", published.one_of_each(lambda: published.FEW))
def test_numbers_are_those_of_the_training_form(spec: str) -> None:
    """Within 1e-8 of the outputs' size; in single precision, deep networks with such weights are too sensitive.

    The deepest are so in double precision: EfficientNet-B6 makes 2e-6 of its output of a change of its input of 1e-15,
    which is rounding, and every layer rounds. There the two forms may differ by 30 such changes.
    """
    graph = check(spec)
    plain, form = both(graph, torch.double)
    near = 64 if len(graph.free) < 3 else 16
    sizes = {name: found.nearest(near)[1] or near for name, found in graph.sizes.items()}
    shapes = [[dims.evaluate(d, sizes) for d in graph.shape(Result(n.id))] for n in graph.input_nodes]
    images = [torch.randn(1, *shape, dtype=torch.double) for shape in shapes]
    with torch.no_grad():
        given, wanted = form(*images), plain(*images)
    given, wanted = ((found,) if isinstance(found, Tensor) else found for found in (given, wanted))
    for i, (ours, theirs) in enumerate(zip(given, wanted, strict=False)):  # the rest is of training
        size, error = theirs.abs().max(), (ours - theirs).abs().max()
        if error >= 1e-8 * size:
            with torch.no_grad():
                rounded = plain(*[x * (1 + 1e-15 * torch.randn_like(x)) for x in images])
            change = ((rounded if isinstance(rounded, Tensor) else rounded[i]) - theirs).abs().max()
            assert change < 1e-4 * size and error < 30 * change
    assert not any(isinstance(m, nn.Dropout) for m in form.modules())


# The network of seed 0 takes longer than the others together.
@pytest.mark.parametrize("seed", [*range(1, 6), *(pytest.param(s, marks=pytest.mark.long) for s in (0, *range(6, 25)))])
def test_random_blocks(seed: int) -> None:
    _, graph = random_graph(random_blocks.network, Random(seed), nodes=600, weights=200_000)
    agrees(graph)
