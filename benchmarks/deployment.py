"""Our ONNX export in onnxruntime, on one thread, in process time; in turn with what it is compared with.

`against` compares it with torchvision's network, exported by hand with the same weights, and both with torchvision in
PyTorch; then onnxruntime's own profile says by operator where the time goes. `int8` compares the quantised export with
the float32 one. `digits` does so for a trained network, with accuracy: `python examples/digits.py --folder digits`
trains it.
"""

from __future__ import annotations

import argparse
import json
import sys
import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import onnxruntime
import torch
from timing import seconds

import archdsl

SPECS = {
    "resnet18": "resnet:resnet18",
    "resnet50": "resnet:resnet50",
    "densenet121": "densenet:densenet121",
    "mobilenet_v2": "mobilenet:mobilenet_v2",
    "vit_b_16": "vit:vit_b_16",
    "convnext_tiny": "convnext:convnext_tiny",
}
BATCH, ROUNDS = 4, 9


def session(path: Path, *, profiles: bool = False) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    options.enable_profiling = profiles
    options.profile_file_prefix = str(path.with_suffix(""))
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def runner(path: Path, images: np.ndarray) -> Callable[[], np.ndarray]:
    found = session(path)
    name = found.get_inputs()[0].name
    return lambda: found.run(None, {name: images})[0]


def operators(path: Path, images: np.ndarray) -> Counter[str]:
    """The parts of the time of a run by operator, in percent."""
    found = session(path, profiles=True)
    name = found.get_inputs()[0].name
    for _ in range(4):
        found.run(None, {name: images})
    times: Counter[str] = Counter()
    for event in json.loads(Path(found.end_profiling()).read_text()):
        if event.get("cat") == "Node" and event["name"].endswith("_kernel_time"):
            times[event["args"]["op_name"]] += event["dur"]
    return Counter({kind: round(100 * took / times.total()) for kind, took in times.items()})


def shares(path: Path, images: np.ndarray) -> str:
    """The operators that take most of the time."""
    return ", ".join(f"{kind} {part} %" for kind, part in operators(path, images).most_common(5) if part)


def against(names: Sequence[str], folder: Path) -> None:
    """Our export and one by hand, both compared with torchvision in PyTorch."""
    import torchvision

    print(f"{'':16} {'PyTorch':>9} {'by hand':>9} {'ours':>9}   ours / by hand   ours / PyTorch")
    for name in names:
        torch.manual_seed(0)
        theirs = torchvision.models.get_model(name, weights=None).eval()
        torch.save(theirs.state_dict(), folder / "weights.pth")
        ours, hand = folder / f"{name}.onnx", folder / f"{name}_hand.onnx"
        archdsl.export(SPECS[name], ours, folder / "weights.pth", inference=True)
        images = torch.rand(BATCH, 3, 224, 224)
        free = ({0: torch.export.Dim("batch")},)
        torch.onnx.export(theirs, (images,), hand, dynamo=True, dynamic_shapes=free, external_data=False, verbose=False)
        array = images.numpy()
        a, b = runner(ours, array), runner(hand, array)
        assert np.abs(a() - b()).max() < 1e-3 * max(1, np.abs(b()).max()), "the two files differ"

        def eager(model: torch.nn.Module = theirs, images: torch.Tensor = images) -> None:
            with torch.inference_mode():
                model(images)

        plain, by_hand, own = seconds([eager, b, a], ROUNDS)
        ratios = f"{own / by_hand:14.2f} {own / plain:16.2f}"
        print(f"{name:16} {plain * 1e3:9.1f} {by_hand * 1e3:9.1f} {own * 1e3:9.1f} {ratios}", flush=True)
        print(f"    by hand: {shares(hand, array)}\n    ours:    {shares(ours, array)}", flush=True)


def int8(names: Sequence[str], folder: Path) -> None:
    """The quantised export, calibrated on noise, compared with the float32 one. Weights are random."""
    samples = folder / "samples"
    samples.mkdir()
    draw = np.random.default_rng(0)
    for number in range(10):
        np.save(samples / f"{number}.npy", draw.random((3, 224, 224), dtype="f4"))
    images = draw.random((BATCH, 3, 224, 224), dtype="f4")
    print(f"{'':16} {'float32':>9} {'int8':>9}    ratio")
    for name in names:
        floats, ints = folder / f"{name}.onnx", folder / f"{name}_int8.onnx"
        torch.manual_seed(0)
        torch.save(archdsl.load(SPECS[name]).state_dict(), folder / "weights.pth")
        archdsl.export(SPECS[name], floats, folder / "weights.pth", inference=True)
        made = archdsl.export(SPECS[name], ints, folder / "weights.pth", quantize=samples)
        a, b = seconds([runner(floats, images), runner(ints, images)], ROUNDS)
        print(f"{name:16} {a * 1e3:9.1f} {b * 1e3:9.1f} {b / a:8.2f}   {made.quantized}", flush=True)


def digits(checkpoint: Path, folder: Path) -> None:
    """Accuracy and time of the digits example, float32 and int8."""
    sys.path.insert(0, str(Path(__file__).parent.parent / "examples"))
    import data

    spec = str(Path(__file__).parent.parent / "examples" / "digits.arch") + ":digits"
    train, test = data.digits()
    samples = folder / "samples"
    samples.mkdir()
    for number, image in enumerate(train[0][torch.randperm(len(train[0]))[:200]]):
        np.save(samples / f"{number:03}.npy", image.numpy())
    state = torch.load(checkpoint, weights_only=True)
    torch.save(state.get("network", state), folder / "weights.pth")
    floats, ints = folder / "digits.onnx", folder / "digits_int8.onnx"
    archdsl.export(spec, floats, folder / "weights.pth", inference=True)
    made = archdsl.export(spec, ints, folder / "weights.pth", quantize=samples)
    print(made.quantized)
    images, labels = test[0].numpy(), test[1].numpy()
    exact, rough = runner(floats, images), runner(ints, images)
    for name, run in (("float32", exact), ("int8", rough)):
        path = floats if name == "float32" else ints
        print(f"{name:8} accuracy {(run().argmax(1) == labels).mean():.4f}; {shares(path, images)}")
    a, b = seconds([exact, rough], ROUNDS)
    print(f"time for {len(images)} images: {a * 1e3:.1f} ms, {b * 1e3:.1f} ms, {b / a:.2f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("what", choices=("against", "int8", "digits"))
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(SPECS)}; for digits its checkpoint")
    given = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    with TemporaryDirectory() as place:
        match given.what:
            case "against":
                against(given.names or [*SPECS], Path(place))
            case "int8":
                int8(given.names or [*SPECS], Path(place))
            case _:
                digits(Path(given.names[0]), Path(place))


if __name__ == "__main__":
    main()
