"""What a training step of built modules keeps and calls, beside torchvision's modules: figures without noise.

`saved` is what autograd keeps for the backward pass, in MiB, each memory counted once and weights left out. `operators`
are those that PyTorch runs in forward, backward and a step of SGD; those that only view a tensor are left out. Two
images at the example size of the spec, in training mode, with the same weights; random numbers are drawn by each.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Iterator
from typing import Any

import torch
import torchvision
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

import archdsl
from archdsl.analysis.costs import sized_shapes

FAMILIES = {
    "alexnet": "alexnet",
    "vgg": "vgg11 vgg11_bn",
    "googlenet": "googlenet",
    "inception": "inception_v3",
    "resnet": "resnet18 resnet50 resnext50_32x4d wide_resnet50_2",
    "densenet": "densenet121",
    "squeezenet": "squeezenet1_0 squeezenet1_1",
    "mobilenet": "mobilenet_v2 mobilenet_v3_large mobilenet_v3_small",
    "shufflenet": "shufflenet_v2_x1_0",
    "mnasnet": "mnasnet1_0",
    "efficientnet": "efficientnet_b0 efficientnet_v2_s",
    "regnet": "regnet_x_400mf regnet_y_400mf",
    "vit": "vit_b_16",
    "convnext": "convnext_tiny",
    "swin": "swin_t swin_v2_t",
    "maxvit": "maxvit_t",
    "fcn": "fcn_resnet50",
    "deeplabv3": "deeplabv3_resnet50 deeplabv3_mobilenet_v3_large",
    "lraspp": "lraspp_mobilenet_v3_large",
    "video_resnet": "r3d_18 mc3_18 r2plus1d_18",
    "s3d": "s3d",
}
"""All families that torchvision has, too, with models of each kind."""
SIDE = {"H": 128, "W": 128}
SMALLER = {"vgg": {"H": 64, "W": 64}, "video_resnet": {"H": 56, "W": 56}, "s3d": {"T": 14, "H": 209, "W": 209}}
SMALLER |= dict.fromkeys(("fcn", "deeplabv3", "lraspp"), SIDE)
"""Sizes that are smaller than the example's, for a small machine."""


class Operators(TorchDispatchMode):
    """Counts what is dispatched, but for views."""

    def __init__(self) -> None:
        super().__init__()
        self.found: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if not func.is_view and func._schema.name not in ("aten::detach", "aten::_unsafe_view"):
            self.found[func._schema.name] += 1
        return func(*args, **(kwargs or {}))


def results(output: Any) -> Iterator[Tensor]:
    """The tensors of a result, which may be a dict or a named tuple with gaps."""
    if isinstance(output, Tensor):
        yield output
    elif output is not None:
        for part in output.values() if isinstance(output, dict) else output:
            yield from results(part)


def saved(model: nn.Module, images: Tensor) -> int:
    """The bytes that autograd saves, but for weights and images, each memory counted once."""
    own = {t.untyped_storage().data_ptr() for t in (*model.parameters(), *model.buffers())}
    found: dict[int, Tensor] = {}

    def pack(tensor: Tensor) -> Tensor:
        if (place := tensor.untyped_storage().data_ptr()) not in own:
            found[place] = tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
        kept = model(images)  # noqa: F841, which must live until all is counted
    return sum(tensor.untyped_storage().nbytes() for tensor in found.values())


def operators(model: nn.Module, images: Tensor) -> Counter[str]:
    """What a step calls, after one that made the optimizer's state."""
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-9)
    with Operators() as counting:
        output = list(results(model(images)))
        torch.autograd.backward(output, [torch.ones_like(tensor) for tensor in output])
        optimizer.step()
    optimizer.zero_grad()
    return counting.found


def measure(family: str, name: str, details: bool) -> None:
    spec = f"{family}:{name}"
    graph = archdsl.check(spec)
    shape = sized_shapes(graph, {**graph.examples, **SMALLER.get(family, {})})[0][0]
    options = {"init_weights": False} if family in ("googlenet", "inception") else {}
    if family in ("fcn", "deeplabv3", "lraspp"):
        options = {"weights_backbone": None}
    theirs = torchvision.models.get_model(name, weights=None, **options)
    ours = archdsl.load(spec)
    ours.load_state_dict(theirs.state_dict())
    images = torch.randn(2, *shape)
    keeps = [saved(model.train(), images) / 2**20 for model in (ours, theirs)]
    calls = [operators(model, images) for model in (ours, theirs)]
    more = [count.total() for count in calls]
    over = "".join(f"  {what}" for what, (a, b) in {"saves": keeps, "calls": more}.items() if a > b * 1.001)
    print(f"{name:28} {keeps[0]:9.2f} {keeps[1]:9.2f} {keeps[0] / keeps[1]:6.3f} ", end="")
    print(f"{more[0]:6} {more[1]:6} {more[0] / more[1]:6.3f}{over and '  more:' + over}", flush=True)
    if details:
        for which in sorted({*calls[0], *calls[1]}):
            if calls[0][which] != calls[1][which]:
                print(f"    {which:44} {calls[0][which]:6} {calls[1][which]:6}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    known = {name: family for family, names in FAMILIES.items() for name in names.split()}
    parser.add_argument("models", nargs="*", metavar="MODEL", help=f"some of: {', '.join(known)}")
    parser.add_argument("--details", action="store_true", help="the operators of which one side calls more")
    given = parser.parse_args()
    if unknown := set(given.models) - known.keys():
        parser.error(f"there is no model {', '.join(sorted(unknown))}")
    print(f"torch {torch.__version__}, torchvision {torchvision.__version__}, two images")
    print(f"{'':28} {'saved':>9} {'theirs':>9} {'ratio':>6}  {'calls':>6} {'theirs':>6} {'ratio':>6}")
    for name in given.models or known:
        measure(known[name], name, given.details)


if __name__ == "__main__":
    main()
