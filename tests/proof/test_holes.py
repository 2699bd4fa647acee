"""Wrong texts whose faults a single run over stand-ins would not show: each is rejected."""

from __future__ import annotations

import re

import pytest
from torch import nn

from archdsl.analysis.layout import Layout
from archdsl.backends.torch_source import write_module
from archdsl.compiler import prove_build
from archdsl.diagnostics import SpecError
from archdsl.graph import Graph, verifying
from archdsl.ops.align import Align
from archdsl.proof import Unproved, prove
from archdsl.proof.layers import LAYERS
from archdsl.transform.inference import for_inference
from archdsl.transform.recompute import Recompute, recompute
from archdsl.transform.series import series
from tests.helpers import graph_of, net_text
from tests.proof.networks import NETWORKS

CONV = "stem: conv(3, 3) -> relu"
DROP = "stem: conv(3, 3) -> y: dropout(0.3)\n(stem, y) -> add"
NORM = "stem: conv(3, 3) -> y: batchnorm\n(stem, y) -> add"
TWO = "a: conv(3, 3) -> act: tanh -> b: conv(3, 3)"
SCALE = "conv(4, 3) -> gain: scale(0.5)"
VALID = "stem: conv(4, 3, pad = valid) -> y: relu\n(stem, y) -> add"
MAIN = "def forward(self, x: Tensor) -> Tensor:\n"
START = "super().__init__()\n"
BEFORE = "\n\nclass Net("


def net(body: str) -> Graph:
    return graph_of(net_text(body, "image[3, H = 8, W = 8]"))


def method(text: str) -> str:
    """A method added to the model's class."""
    return f"    {text}\n\n    {MAIN}"


HOLES: dict[str, tuple[str, str, str]] = {
    # State between calls.
    "a counter": (CONV, MAIN, f"{MAIN}        self.calls = 1\n"),
    "a list of the class": (CONV, f"    {MAIN}", f"    seen = []\n\n    {MAIN}"),
    "a default that is kept": (CONV, MAIN, "def forward(self, x: Tensor, seen=[]) -> Tensor:\n"),
    "a list at the top": (CONV, BEFORE, f"\n\nSEEN = []{BEFORE}"),
    "a list on the module": (CONV, START, f"{START}        self.seen = []\n"),
    "an iterator on the module": (CONV, START, f"{START}        self.steps = zip([1], [2])\n"),
    "weights frozen while it runs": (CONV, MAIN, f"{MAIN}        self.stem.weight.requires_grad_(False)\n"),
    "weights filled while it runs": (CONV, MAIN, f"{MAIN}        nn.init.zeros_(self.stem.weight)\n"),
    "numbers put in while it runs": (CONV, MAIN, f"{MAIN}        self.stem.weight.data.copy_([1.0])\n"),
    "its mode left while it runs": (DROP, MAIN, f"{MAIN}        self.eval()\n"),
    "a member's mode left while it runs": (NORM, MAIN, f"{MAIN}        self.stem.train(False)\n"),
    "a member made while it runs": (CONV, MAIN, f'{MAIN}        self.add_module("more", nn.ReLU())\n'),
    "a layer changed while it runs": (CONV, MAIN, f"{MAIN}        self.stem.stride = 2\n"),
    "what a layer knows": (CONV, MAIN, f"{MAIN}        self.stem.storage\n"),
    "bytes of a text": (CONV, MAIN, f"{MAIN}        self.stem.padding_mode.encode\n"),
    # A layer changed after its construction.
    "a layer's stride set": (TWO, "self.act =", "self.a.stride = (2, 2)\n        self.act ="),
    "a layer's member": (TWO, "self.act =", 'self.a.add_module("x", nn.Linear(3, 3))\n        self.act ='),
    "what a stand-in knows": (
        CONV,
        "self.stem =",
        "self.more = nn.Conv2d(3, 3, 3)\n        self.more.weight.placed = nn.Module()\n        self.stem =",
    ),
    "a layer's members": (TWO, "self.act =", 'self.a._modules["x"] = nn.Linear(3, 3)\n        self.act ='),
    "a layer's parameter": (
        TWO,
        "self.b =",
        'self.act.register_parameter("x", nn.Parameter(torch.ones(3, **kw)))\n        self.b =',
    ),
    "one layer for two": (TWO, "self.b = nn.Conv2d(3, 3, 3, padding=1, **kw)", "self.b = self.a"),
    "a layer starts in evaluation": (DROP, "self.y = nn.Dropout(0.3)", "self.y = nn.Dropout(0.3).eval()"),
    "the model starts in evaluation": (NORM, "self.y =", "self.eval()\n        self.y ="),
    "a layer made for each call": (DROP, "self.y(", "nn.Dropout(0.3)("),
    "numbers for a parameter": (SCALE, "torch.full((4,), 0.5, **kw))", "torch.full((4,), 0.5, **kw)).data"),
    # Code before the names that a text uses.
    "another torch": (CONV, BEFORE, f"\n\ntorch = nn{BEFORE}"),
    "another nn": (CONV, BEFORE, f"\n\nnn.ReLU = nn.SiLU{BEFORE}"),
    "another super": (CONV, BEFORE, f"\n\ndef super():\n    return nn{BEFORE}"),
    "another model at the end": (CONV, "", "\n\nOther = Net\n"),
    "code at the end": (CONV, "", "\n\nfor i in (1,):\n    Net.forward = i\n"),
    "its class decorated": (CONV, "class Net(", "@nn.Module\nclass Net("),
    # Methods that PyTorch calls.
    "train": (DROP, f"    {MAIN}", method("def train(self, mode=True):\n        return self")),
    "eval": (DROP, f"    {MAIN}", method("def eval(self):\n        return self")),
    "state_dict": (CONV, f"    {MAIN}", method("def state_dict(self, *a, **k):\n        return {}")),
    "parameters": (CONV, f"    {MAIN}", method("def parameters(self):\n        return []")),
    "__call__": (CONV, f"    {MAIN}", method("def __call__(self, x):\n        return self.stem(x)")),
    "__getattr__": (CONV, f"    {MAIN}", method("def __getattr__(self, name):\n        return 1")),
    "_apply": (CONV, f"    {MAIN}", method("def _apply(self, f):\n        return self")),
    "a property": (CONV, f"    {MAIN}", method("@property\n    def gain(self):\n        return 1")),
    # Answers in which a stand-in differs from PyTorch.
    "a batch of one": (CONV, MAIN, f"{MAIN}        if x.shape[0] == 1:\n            x = x * 2\n"),
    "one size": (CONV, MAIN, f"{MAIN}        if x.shape[2] == 224:\n            x = x * 2\n"),
    "one size in a list": (CONV, "return x", "return [x, x][x.shape[2] == 224]"),
    "a type": (CONV, MAIN, f"{MAIN}        if x.dtype == torch.float16:\n            x = x * 2\n"),
    "a device": (CONV, MAIN, f"{MAIN}        x = x if x.is_cuda else x * 2\n"),
    "a gradient": (CONV, MAIN, f"{MAIN}        x = (x.requires_grad and x) or x * 2\n"),
    "compiled": (CONV, MAIN, f"{MAIN}        if torch.compiler.is_compiling():\n            return x\n"),
    "without gradients": (CONV, MAIN, f"{MAIN}        if not torch.is_grad_enabled():\n            return x\n"),
    "a size at the top": (
        CONV,
        BEFORE,
        "\n\ndef odd(x: Tensor) -> Tensor:\n    if x.shape[2] == 7:\n        return x * 2\n    return x" + BEFORE,
    ),
    "inside a stand-in": (CONV, MAIN, f"{MAIN}        x.storage\n"),
    "an error passed over": (
        VALID,
        "        check_size(",
        "        try:\n            check_size('H', x.shape[2])\n        except ValueError:\n            pass\n"
        "        check_size(",
    ),
    "sizes checked behind": (VALID, MAIN, f"{MAIN}        y = x\n"),
    # What PyTorch does not take.
    "a float for a number": (CONV, "3, 3, 3,", "3, 3, 3.0,"),
    "a bool for a number": (CONV, "padding=1", "padding=True"),
    "too short a tuple": (CONV, "3, 3, 3,", "3, 3, (3,),"),
    "too long a tuple": (CONV, "3, 3, 3,", "3, 3, (3, 3, 3),"),
    "a float for an axis": ("global_avgpool -> flatten", ".flatten(1)", ".flatten(1.0)"),
    "a bool for an axis": ("global_avgpool -> flatten", ".flatten(1)", ".flatten(True)"),
    "a tensor of whole numbers": ("gain: scale(1)", "torch.ones(3, **kw)", "torch.full((3,), 1, **kw)"),
    "a dict of members": (
        "part: { conv(3, 3) -> relu }",
        "nn.Sequential(\n            nn.Conv2d(3, 3, 3, padding=1, **kw), nn.ReLU(inplace=True)\n        )",
        'nn.Sequential({"0": nn.Conv2d(3, 3, 3, padding=1, **kw), "1": nn.ReLU(inplace=True)})',
    ),
    # Checks and exports.
    "one size more refused": (VALID, "if size >= 3:", "if size >= 3 and size != 100003:"),
    "one size more taken": (VALID, "if size >= 3:", "if size >= 3 or size == -(-1):"),
    "a large size refused": (VALID, "if size >= 3:", "if 3 <= size < 1000000:"),
    "a cube refused": (VALID, "if size >= 3:", "if size >= 3 and size ** 3 != 1000000:"),
    "a square refused": (VALID, "if size >= 3:", "if size >= 3 and size * size != 10000:"),
    "a remainder refused": (VALID, "if size >= 3:", "if size >= 3 and (size * 3) % 97 != 5:"),
    "a remainder of a remainder refused": (VALID, "if size >= 3:", "if size >= 3 and size % 91 % 53 != 52:"),
    "long numbers refused": (VALID, "if size >= 3:", "if size >= 3 and len(str(size)) < 5:"),
    # The device and dtype of a model.
    "another default": (CONV, "dtype: torch.dtype | None = None", "dtype: torch.dtype | None = torch.float16"),
    "a layer without a dtype": (CONV, "nn.ReLU(inplace=True)", "nn.ReLU() if dtype is None else nn.ReLU(True)"),
    "a layer without a device": (CONV, START, f"{START}        other = device\n"),
    # Overwritten tensors read under the same name.
    "overwritten under its name": (
        "x: batchnorm -> relu\n(it, x -> tanh) -> add",
        "nn.ReLU()",
        "nn.ReLU(inplace=True)",
    ),
    "added to under its name": (
        "x: batchnorm -> y: tanh\n(x, y) -> add -> z: silu\n(z, x) -> sub",
        MAIN,
        f"{MAIN}        x = self.x(x)\n        y = self.y(x)\n        x += y\n        return self.z(x) - x\n",
    ),
    "one tensor for two parameters": (
        "a: scale(1) -> b: scale(1)",
        "self.b = nn.Parameter(torch.ones(3, **kw))",
        "ones = torch.ones(3, **kw)\n        self.a = nn.Parameter(ones)\n        self.b = nn.Parameter(ones)",
    ),
    "an import that a helper needs": (
        "a: conv(3, 3) -> droppath(0.2)",
        "from torch import Tensor, nn",
        "from torch import nn",
    ),
    # What is none in some runs.
    "a permuted mask of unshifted windows": (
        "windows(4, 0) { attention(1) }",
        "mask_strangers(x, 4, 0)",
        "mask_strangers(x, 4, 0).permute(0, 2, 3, 1).permute(0, 3, 1, 2)",
    ),
    # Members in another order.
    "a member given twice": (TWO, "self.a =", "self.b = nn.ReLU()\n        self.a ="),
    # Endless work.
    "a loop": (CONV, START, f"{START}        for i in range(10000000000):\n            pass\n"),
    "a list of a range": (CONV, START, f"{START}        y = list(range(10000000000))\n"),
    "a long text": (CONV, START, f"{START}        y = 'x' * 10000000000\n"),
    "a long list": (CONV, START, f"{START}        n = 10000000000\n        y = [0] * n\n"),
    "a power": (CONV, START, f"{START}        y = 10**10**8\n"),
    "a power in place": (CONV, START, f"{START}        y = 10\n        y **= 2\n"),
    "padding of texts": (CONV, START, f"{START}        y = f'{{1:1000000000}}'\n"),
    "texts in texts": (
        CONV,
        START,
        f"{START}        y = 'x'\n        for i in range(60):\n            y = f'{{y}}{{y}}'\n",
    ),
    "a text joined": (
        CONV,
        START,
        f"{START}        y = 'x'\n        for i in range(60):\n            y = y.join([y, y])\n",
    ),
    "a text replaced": (
        CONV,
        START,
        f"{START}        y = 'x'\n        for i in range(60):\n            y = y.replace('x', 'xx')\n",
    ),
    "a list in itself": (
        CONV,
        START,
        f"{START}        y = [0]\n        for i in range(60):\n            y = [*y, *y]\n",
    ),
    "a list extended": (CONV, START, f"{START}        y = [0]\n        for i in range(60):\n            y.extend(y)\n"),
    "a list as a text": (CONV, START, f"{START}        y = str(['x' * 1000] * 1000)\n"),
    "bytes": (CONV, START, f"{START}        y = b'x' * 10000000000\n"),
    "a sum of lists": (CONV, START, f"{START}        y = sum([[0] * 1000] * 1000, [])\n"),
    "doubling": (CONV, START, f"{START}        y = [0]\n        for i in range(60):\n            y = y + y\n"),
    "squaring": (CONV, START, f"{START}        y = 3\n        for i in range(60):\n            y *= y\n"),
    "calls": (CONV, BEFORE, f"\n\ndef f(n: int) -> int:\n    return f(n - 1) + f(n - 1) if n else 1{BEFORE}"),
    # Python's own modules.
    "the modules of typing": (CONV, "import torch\n", "from typing import sys\nimport torch\n"),
    "the modules of collections.abc": (CONV, "import torch\n", "from collections.abc import sys\nimport torch\n"),
}


def test_a_helper_stands_before_what_uses_it() -> None:
    graph = net("conv(3, 3) -> droppath(0.2)")
    text = prove_build(graph).text
    start, end = text.index("class DropPath"), text.index("def dynamic_shapes")
    with pytest.raises(Unproved):
        prove(text[:start] + text[end:] + "\n\n" + text[start:end], graph)


FOLDED = "a: conv(6, 3) -> an: batchnorm -> relu -> b: conv(5, 3) -> bn: batchnorm"
SPLIT = "x: batchnorm\n(conv(40, 3), conv(40, 3)) -> concat -> n: batchnorm -> relu"
FOLDS: dict[str, tuple[str, str, str]] = {
    "its argument changed": (FOLDED, "    return {k: v", '    state.pop("a.weight")\n    return {k: v'),
    "its argument overwritten": (
        FOLDED,
        "        norms.add(norm)",
        "        weight *= factor\n        norms.add(norm)",
    ),
    "a part of its argument overwritten": (
        FOLDED,
        "        norms.add(norm)",
        "        weight[0:1] = weight[1:2]\n        norms.add(norm)",
    ),
    "another eps": (FOLDED, "+ 1e-05", "+ 1e-06"),
    "another start": (SPLIT, '("n", 40, "2", 0, 40', '("n", 39, "2", 0, 40'),
    "a shift to the left": (SPLIT, "slice(start, start + count)", "slice(start, start + count - 1)"),
    "no copy": (SPLIT, ".clone()\n        if groups", "\n        if groups"),
}


def test_an_output_of_training_in_evaluation_is_refused() -> None:
    """Even if evaluation needs the nodes that give it."""
    graph = net("a: conv(3, 3) -> b: relu\noutput b, aux = a if training")
    text = prove_build(graph).text
    assert text.count("if self.training") == 1
    with pytest.raises(Unproved):
        prove(re.sub(r" if self\.training else None", "", text), graph)


def refused(graph: Graph, old: str, new: str, **options: object) -> None:
    inference = options.get("inference", False)
    shown, folding = for_inference(graph) if inference else (graph, None)
    again = recompute(graph, options.get("recompute", "none"))  # type: ignore[arg-type]
    text = prove_build(graph, **options).text  # type: ignore[arg-type]
    assert old in text
    with pytest.raises(Unproved):
        prove(text.replace(old, new), shown, folding=folding, recompute=again)


@pytest.mark.parametrize("name", FOLDS)
def test_a_wrong_folding_is_refused(name: str) -> None:
    body, old, new = FOLDS[name]
    refused(net(body), old, new, inference=True)


RECOMPUTED = {
    "another way while compiling": ("if not torch.is_grad_enabled()", "if torch.compiler.is_compiling()"),
    "in evaluation, compiled": (
        "        if not torch.is_grad_enabled()",
        "        if torch.compiler.is_compiling() and not inputs[0].training:\n            return inputs[1]\n"
        "        if not torch.is_grad_enabled()",
    ),
    "a closure over its tensors": (
        "                function,\n                *inputs,",
        "                lambda module: function(module, *inputs[1:]),\n                inputs[0],",
    ),
    "a count of its calls": (
        "    @wraps(function)",
        "    seen = []\n\n    @wraps(function)",
    ),
    "an iterator of its own": ("    @wraps(function)", "    left = zip([1], [2])\n\n    @wraps(function)"),
    "statistics counted twice": ("counted_before(*inputs))", "nullcontext())"),
    "statistics left in copies": ("            setattr(owner, name, buffer)\n\n\n", "            pass\n\n\n"),
}


@pytest.mark.parametrize("name", RECOMPUTED)
def test_a_wrong_recomputation_is_refused(name: str) -> None:
    old, new = RECOMPUTED[name]
    refused(graph_of(NETWORKS["dense"]), old, new, recompute="blocks")


def test_features_that_are_stored_together_are_refused() -> None:
    """Each call of a layer would store all features before it."""
    graph = graph_of(NETWORKS["dense"])
    again = recompute(graph, "dense")
    text = write_module(graph, recompute=again)
    prove(text, graph, recompute=again)
    assert "layer(*features)" in text
    with pytest.raises(Unproved, match="recomputes other parts"):
        prove(text.replace("layer(*features)", "layer(torch.cat(features, 1))"), graph, recompute=again)


IN_SERIES = {
    "not recomputed": ("@recomputed\ndef recomputed_layers", "def recomputed_layers"),
    "not these": ("recomputed_layers(y, self.norm2, self.relu, self.conv3)", "self.conv3(self.relu(self.norm2(y)))"),
    "more than these": (
        "recomputed_layers(self.conv1(x), self.norm1, self.relu, self.conv2)",
        "recomputed_layers(x, self.conv1, self.norm1, self.relu, self.conv2)",
    ),
    "others": ("recomputed_layers(y, self.norm2", "recomputed_layers(y, self.norm1"),
    "not all": ("    for layer in layers:\n        x = layer(x)", "    for layer in layers[1:]:\n        x = layer(x)"),
    "statistics counted twice": ("counted_before(*inputs))", "nullcontext())"),
    "statistics of some": ("[part for part in parts if", "[part for part in parts[:1] if"),
    "overwritten": ("        x = layer(x)\n    return x", "        x = layer(x)\n    x += 1\n    return x"),
}


@pytest.mark.parametrize("name", IN_SERIES)
def test_layers_wrongly_recomputed_in_series_are_refused(name: str) -> None:
    body = """
        conv1: conv(4, 3) -> norm1: batchnorm -> relu -> conv2: conv(4, 3) -> norm2: batchnorm -> relu
        conv3: conv(4, 3)
    """
    graph = net(f"conv(4, 3)\n residual {{ {body} }}")
    found = {s.path: s for s in series(graph, Layout.of(graph))}
    again = Recompute(series=frozenset((found["norm1…conv2"], found["norm2…conv3"])))
    text = write_module(graph, recompute=again)
    prove(text, graph, recompute=again)
    old, new = IN_SERIES[name]
    assert old in text
    with pytest.raises(Unproved):
        prove(text.replace(old, new), graph, recompute=again)


@pytest.mark.parametrize("name", HOLES)
def test_a_wrong_text_is_refused(name: str) -> None:
    body, old, new = HOLES[name]
    graph = net(body)
    text = prove_build(graph).text
    assert old in text
    changed = text.replace(old, new, 1) if old else text + new
    if name == "calls":
        changed = changed.replace(START, f"{START}        f(60)\n")
    if name == "a size at the top":
        changed = changed.replace("return x\n", "return odd(x)\n")
    with pytest.raises(Unproved):
        prove(changed, graph)


def test_stand_ins_are_instances_of_what_pytorchs_layers_are() -> None:
    for name, stand_in in LAYERS.items():
        for other, base in LAYERS.items():
            assert issubclass(stand_in, base) == issubclass(getattr(nn, name), getattr(nn, other)), (name, other)


def test_the_batch_of_a_tensor_without_one_is_refused() -> None:
    """Attention broadcasts one query over a batch, other operations may not."""
    refused(
        graph_of(NETWORKS["parameters"]),
        "(x + queries).expand(memory.shape[0]",
        "(x + queries).expand(x.shape[0]",
    )


def test_several_tensors_of_which_only_some_have_the_batch_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    text = net_text("(it, parameter([2, 5, 5])) -> it -> align -> concat", "x[3, 4, 4]")
    prove_build(graph_of(text))
    monkeypatch.setattr(Align, "needs_batches", 0)  # a mistake in an operation
    monkeypatch.setattr(verifying, "_check_batches", lambda *_: None)
    with pytest.raises(SpecError, match="of which only some would have the batch"):
        prove_build(graph_of(text))
