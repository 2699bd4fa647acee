"""The speed and memory of built modules compared with torchvision's.

If torchvision cannot be imported (it must match torch's version), `handwritten.py` replaces it. Each row is a ratio:
both sides run alternately in one process, and the medians are compared; memory is what PyTorch allocates. Both have the
same weights, and their outputs are compared before timing.
"""

from __future__ import annotations

import argparse
import io
import platform
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import torch
from torch import Tensor, nn

import archdsl

sys.path.insert(0, str(Path(__file__).parent))

try:
    import torchvision

    PEER = f"torchvision {torchvision.__version__}"

    def peer(name: str) -> nn.Module:
        if name == "hrnet_w18":  # torchvision has none
            import timm

            return timm.create_model(name)
        return torchvision.models.get_model(name, weights=None)

except (ImportError, RuntimeError):  # not installed, or not for this torch
    import handwritten

    PEER = "handwritten.py"

    def peer(name: str) -> nn.Module:
        return handwritten.MODELS[name]()


SPECS = {
    "resnet18": "resnet:resnet18",
    "resnet50": "resnet:resnet50",
    "densenet121": "densenet:densenet121",
    "vgg11": "vgg:vgg11",
}
TRANSFORMERS = {
    "vit_b_16": "vit:vit_b_16",
    "swin_t": "swin:swin_t",
    "convnext_tiny": "convnext:convnext_tiny",
    "hrnet_w18": "hrnet:hrnet_w18",
}
"""Only torchvision has these, and timm the last."""


def turns(first: Callable[[], object], second: Callable[[], object], rounds: int) -> tuple[float, float]:
    """The median seconds of each, run alternately."""
    for action in (first, second):
        action()
        action()
    times: tuple[list[float], list[float]] = ([], [])
    for number in range(rounds):
        order = (0, 1) if number % 2 else (1, 0)
        for which in order:
            start = time.perf_counter()
            (first, second)[which]()
            times[which].append(time.perf_counter() - start)
    return median(times[0]), median(times[1])


def report(row: str, ours: float, theirs: float, aim: float, unit: str = "ms") -> None:
    scale = {"ms": 1e3, "MiB": 2**-20}[unit]
    verdict = "" if ours / theirs <= aim else "  over"
    figures = f"{ours * scale:9.1f} {theirs * scale:9.1f} {unit:3}"
    print(f"{row:44} {figures} {ours / theirs:6.3f}  (aim {aim}){verdict}", flush=True)


def pair(name: str) -> tuple[nn.Module, nn.Module]:
    """Our module and the other one with the same weights; checks that their outputs agree."""
    torch.manual_seed(0)
    ours, theirs = archdsl.load((SPECS | TRANSFORMERS)[name]), peer(name)
    for parameter in theirs.parameters():
        if not parameter.any():  # a head that starts with zeros would hide what comes before it
            nn.init.normal_(parameter, std=0.02)
    for key, tensor in theirs.state_dict().items():
        if key.endswith("running_var"):
            tensor.uniform_(0.5, 1.5)
        elif key.endswith("running_mean"):
            tensor.uniform_(-0.1, 0.1)
    ours.load_state_dict(theirs.state_dict())
    agree(ours.eval(), theirs.eval())
    return ours, theirs


@torch.no_grad()
def agree(ours: Callable[[Tensor], Tensor], theirs: Callable[[Tensor], Tensor], within: float = 1e-3) -> None:
    image = torch.randn(2, 3, 224, 224)
    given, wanted = ours(image), theirs(image)
    assert (given - wanted).abs().max() < within * wanted.std(), "the two networks differ"


# ---------------------------------------------------------------- rows


def eager(rounds: int) -> None:
    """Training steps and forward passes in evaluation, as users run them."""
    for name in SPECS:
        eager_of(name, rounds)


def transformers(rounds: int) -> None:
    """The same for networks with attention, or built like those."""
    if not PEER.startswith("torchvision"):
        print("transformers: left out, as torchvision cannot be imported")
        return
    for name in TRANSFORMERS:
        eager_of(name, rounds)


def eager_of(name: str, rounds: int) -> None:
    ours, theirs = pair(name)
    images = torch.randn(4, 3, 224, 224)

    def infer(model: nn.Module) -> None:
        with torch.no_grad():
            model(images)

    def step(model: nn.Module) -> None:
        model(images).square().mean().backward()
        model.zero_grad(set_to_none=True)

    ours.eval(), theirs.eval()
    a, b = turns(lambda: infer(ours), lambda: infer(theirs), rounds)
    report(f"{name}: forward in evaluation", a, b, 1.03)
    ours.train(), theirs.train()
    a, b = turns(lambda: step(ours), lambda: step(theirs), rounds)
    report(f"{name}: training step", a, b, 1.03)


def folded(name: str) -> tuple[nn.Module, nn.Module]:
    """Our inference form, and the other module."""
    _, theirs = pair(name)
    ours = archdsl.load(SPECS[name], inference=True)
    fold = sys.modules[type(ours).__module__].fold_batchnorms
    ours.load_state_dict(fold(theirs.state_dict()))
    agree(ours, theirs)
    return ours, theirs


def inference(rounds: int) -> None:
    """The inference form, channels last."""
    for name in ("resnet50", "densenet121"):
        inference_of(name, rounds)


def inference_of(name: str, rounds: int) -> None:
    ours, theirs = folded(name)
    ours = ours.to(memory_format=torch.channels_last)
    images = torch.randn(4, 3, 224, 224)
    last = images.to(memory_format=torch.channels_last)
    with torch.inference_mode():
        a, b = turns(lambda: ours(last), lambda: theirs(images), rounds)
    report(f"{name}: form for inference", a, b, 0.87)


def compiled(rounds: int) -> None:
    """The inference form, compiled with its weights as constants."""
    import torch._inductor.config

    torch._inductor.config.freezing = True
    for name in ("resnet50", "densenet121"):
        compiled_of(name, rounds)


def compiled_of(name: str, rounds: int) -> None:
    ours, theirs = folded(name)
    images = torch.randn(4, 3, 224, 224)
    last = images.to(memory_format=torch.channels_last)
    with torch.inference_mode():
        fast = torch.compile(ours.to(memory_format=torch.channels_last), fullgraph=True)
        a, b = turns(lambda: fast(last), lambda: theirs(images), rounds)
    report(f"{name}: form for inference, compiled", a, b, 0.72)


def onnx(rounds: int) -> None:
    """The inference form, exported, in onnxruntime."""
    for name in ("resnet50", "densenet121"):
        onnx_of(name, rounds)


def onnx_of(name: str, rounds: int) -> None:
    import onnxruntime

    ours, theirs = folded(name)
    images = torch.randn(4, 3, 224, 224)
    shapes = sys.modules[type(ours).__module__].dynamic_shapes()
    program = torch.onnx.export(ours, (images[:2],), dynamo=True, dynamic_shapes=shapes, verbose=False)
    buffer = io.BytesIO(program.model_proto.SerializeToString())
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(buffer.getvalue(), options, providers=["CPUExecutionProvider"])
    entry = session.get_inputs()[0].name
    agree(lambda x: torch.from_numpy(session.run(None, {entry: x.numpy()})[0]), theirs)
    array = images.numpy()
    with torch.inference_mode():
        a, b = turns(lambda: session.run(None, {entry: array}), lambda: theirs(images), rounds)
    report(f"{name}: its ONNX export in onnxruntime", a, b, 0.46)


def memory(rounds: int) -> None:
    """A training step of DenseNet-121 that recomputes its dense layers, compared with the plain form."""
    plain, again = (archdsl.load("densenet:densenet121", recompute=mode) for mode in ("none", "dense"))
    again.load_state_dict(plain.state_dict())
    images = torch.randn(16, 3, 224, 224)

    def step(model: nn.Module) -> None:
        model(images).square().mean().backward()
        model.zero_grad(set_to_none=True)

    a, b = peak(again, lambda: step(again)), peak(plain, lambda: step(plain))
    report("densenet121 --recompute dense: peak memory", a, b, 0.45, "MiB")
    a, b = turns(lambda: step(again), lambda: step(plain), rounds)
    report("densenet121 --recompute dense: time", a, b, 1.35)


def peak(model: nn.Module, action: Callable[[], object]) -> float:
    """The peak memory of PyTorch while a model does something, including its weights."""
    from torch.profiler import ProfilerActivity, profile  # slow to import, and needed only here

    held = sum(t.untyped_storage().nbytes() for t in (*model.parameters(), *model.buffers()))
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        action()
    now = most = 0
    for event in profiler.profiler.kineto_results.events():
        if event.name() == "[memory]":
            now += event.nbytes()
            most = max(most, now)
    return float(held + most)


FIRST = """
import time, torch, archdsl, torchvision
import archdsl.elaborate, archdsl.proof
import archdsl.backends.torch_source, archdsl.checker.spec, archdsl.transform.inference, archdsl.transform.recompute

def theirs():
    with torch.device("meta"):
        torchvision.models.resnet152()

def seconds(action):
    start = time.process_time()
    action()
    return time.process_time() - start

theirs()
print(seconds(lambda: archdsl.load("resnet:resnet152", device="meta")), min(seconds(theirs) for _ in range(3)))
"""


def loading(rounds: int) -> None:
    """The first load of ResNet-152 on the meta device, from its spec, each in a new process that has its imports."""
    if not PEER.startswith("torchvision"):
        print("loading: left out, as torchvision cannot be imported")
        return
    found = []
    for _ in range(max(3, rounds // 3)):
        done = subprocess.run([sys.executable, "-c", FIRST], capture_output=True, text=True, check=True)
        found.append([float(text) for text in done.stdout.split()])
    ours, theirs = (median(column) for column in zip(*found, strict=True))
    report("resnet152: first load on the meta device", ours, theirs, 1.3)


ROWS = {f.__name__: f for f in (eager, transformers, inference, compiled, onnx, memory, loading)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("rows", nargs="*", metavar="ROW", help=f"some of: {', '.join(ROWS)}; all if none is named")
    parser.add_argument("--rounds", type=int, default=15, help="how often each side runs")
    given = parser.parse_args()
    if unknown := set(given.rows) - ROWS.keys():
        parser.error(f"there is no row {', '.join(sorted(unknown))}")
    versions = f"Python {platform.python_version()}, torch {torch.__version__}, archdsl {archdsl.__version__}"
    print(f"{platform.machine()}, {torch.get_num_threads()} threads; {versions}; against {PEER}")
    print(f"{'':44} {'ours':>9} {'theirs':>9}     {'ratio':>6}")
    for row in given.rows or ROWS:
        ROWS[row](given.rounds)


if __name__ == "__main__":
    main()
