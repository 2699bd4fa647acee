"""Weights in files: read without running anything of them, matched to a network by key and shape, and kept.

torch is imported inside the functions that hold tensors in their hands: matching itself works on a graph's facts.
"""

from __future__ import annotations

import stat
import warnings
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from archdsl.diagnostics import visible
from archdsl.graph import Graph

if TYPE_CHECKING:  # where tensors are read or written, each function imports torch itself
    import torch

WRAPPERS = ("state_dict", "model", "network", "model_state_dict")
"""The keys under which checkpoints hold a state_dict."""


ROWS = 12
"""How many rows of each kind a report has."""

BOMB = 100
"""How many times its size a checkpoint may unpack to. PyTorch does not compress them at all."""


class WeightsError(Exception):
    """A file that holds no weights, or weights that nothing of a network fits."""


@dataclass(frozen=True, slots=True)
class Match:
    """What became of each key. `shapes` has (key, shape in the file, shape in the network) of those that differ.

    `rule` is the renaming, OLD and NEW, by which most of the unexpected ones, or of the missing, would match.
    """

    matched: tuple[str, ...]
    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    shapes: tuple[tuple[str, tuple[int, ...], tuple[int, ...]], ...]
    rule: tuple[str, str] | None = None

    @property
    def complete(self) -> bool:
        """Whether every tensor of the network, and every one of the file, found its like."""
        return not (self.missing or self.unexpected or self.shapes)

    def as_text(self) -> str:
        """`matched 318 of 320 tensors`, and a table of the rest, by modules where the whole of one is of a kind."""
        differ = {key: f"  {_times(theirs)} in the file, {_times(ours)} here" for key, theirs, ours in self.shapes}
        met = [*self.matched, *differ]
        lines = [f"matched {len(self.matched)} of {len(met) + len(self.missing)} tensors"]
        for kind, rows in (
            ("another shape", [(key, 1) for key in differ]),
            ("missing", _by_module(self.missing, met)),
            ("unexpected", _by_module(self.unexpected, met)),
        ):
            for name, count in rows[:ROWS]:
                lines.append(f"  {kind:13} {count:6,}  {_shown(name)}{differ.get(name, '')}")
            if more := sum(count for _, count in rows[ROWS:]):
                lines.append(f"  {kind:13} {more:6,}  …")
        if self.rule is not None:
            old, new = map(_shown, self.rule)
            lines.append(f"help: `--rename '{old}={new}'` gives them the network's names")
        return "\n".join(lines)

    def as_data(self) -> dict[str, object]:
        return {
            "matched": list(self.matched),
            "missing": list(self.missing),
            "unexpected": list(self.unexpected),
            "shapes": [{"key": k, "file": list(a), "network": list(b)} for k, a, b in self.shapes],
        }


def _by_module(keys: Sequence[str], others: Sequence[str]) -> list[tuple[str, int]]:
    """The keys in rows with their counts: `layer1.*` where all below it are among them and none of the others."""
    taken = {key[:dot] for key in others for dot in _dots(key)}
    rows: dict[str, int] = {}
    for key in keys:
        whole = next((f"{key[:dot]}.*" for dot in _dots(key) if key[:dot] not in taken), key)
        rows[whole] = rows.get(whole, 0) + 1
    return list(rows.items())


def _dots(key: str) -> list[int]:
    """Where the modules' names in a key end, the outermost first."""
    return [i for i, character in enumerate(key) if character == "."]


def _shown(key: object) -> str:
    """A key of a file, which may hold anything, as a line shows it."""
    text = visible(str(key))
    return text if len(text) <= 300 else text[:299] + "…"


def _times(shape: tuple[int, ...]) -> str:
    return "×".join(map(str, shape)) or "a number"


def state_shapes(graph: Graph) -> dict[str, tuple[int, ...]]:
    """The keys and shapes of the network's state_dict, in order of placement."""
    found: dict[str, tuple[int, ...]] = {}
    for node in graph.nodes():
        for weight in node.operation.weights(graph.shapes(node.inputs)):
            found[f"{node.path}.{weight.name}" if weight.name else node.path] = weight.shape
    return found


def read_state(path: Path) -> dict[str, torch.Tensor]:
    """The state_dict in a .safetensors or .pth file, bare or inside a checkpoint, on the CPU.

    Nothing of the file is run: of pickles, tensors and plain containers alone are read. Raises OSError, WeightsError.
    """
    name = visible(str(path))
    if not stat.S_ISREG(path.stat().st_mode):
        raise WeightsError(f"{name} is no regular file, and weights are read from those alone")
    if _is_bomb(path):
        raise WeightsError(f"{name} unpacks to more than {BOMB} times its size, which no weights do")
    import torch  # a state_dict is made of its tensors

    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file  # needed for files of this kind alone

            found: Any = load_file(path)
        else:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of protocols; what it can read, it reads
                found = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, ImportError):
        raise
    except Exception:  # the readers raise many kinds for a file that is no checkpoint, or would run code
        raise WeightsError(
            f"{name} holds no weights that can be read without running it; save them alone: "
            "torch.save(model.state_dict(), FILE)"
        ) from None
    for key in WRAPPERS:
        if isinstance(found, dict) and isinstance(found.get(key), dict):
            found = found[key]
    state = {k: v for k, v in found.items() if isinstance(v, torch.Tensor)} if isinstance(found, dict) else {}
    if not state:
        raise WeightsError(f"{name} holds no state_dict: no tensors by name")
    for key, tensor in state.items():
        if not _is_plain(tensor):
            raise WeightsError(f"{name}: {_shown(key)} is no plain tensor of numbers that a network can take")
    return {str(key): tensor for key, tensor in state.items()}


def _is_plain(tensor: torch.Tensor) -> bool:
    """Whether it has the numbers of its shape: it is not sparse, nested, quantised, complex or without contents."""
    import torch  # its kinds of tensors

    dense = not tensor.is_nested and tensor.layout == torch.strided and not tensor.is_quantized
    return dense and not tensor.is_meta and not tensor.is_complex()


def _is_bomb(path: Path) -> bool:
    """Whether a zip archive, as PyTorch writes checkpoints, says that it unpacks to far more than it is."""
    try:
        with zipfile.ZipFile(path) as archive:
            return sum(part.file_size for part in archive.infolist()) > BOMB * path.stat().st_size
    except (zipfile.BadZipFile, ValueError, NotImplementedError):
        return False  # of another form, which its reader judges


def write_state(path: Path, state: Mapping[str, torch.Tensor]) -> bytes:
    """The bytes of a state_dict for a file of this name: .safetensors, else PyTorch's own format."""
    import io

    import torch  # its format

    if path.suffix == ".safetensors":
        from safetensors.torch import save  # needed for files of this kind alone

        data: bytes = save({k: v.contiguous() for k, v in state.items()})
        return data
    buffer = io.BytesIO()
    torch.save(dict(state), buffer)
    return buffer.getvalue()


def renamed(keys: Sequence[str], rules: Sequence[tuple[str, str]]) -> dict[str, str]:
    """Each key under its new name. A `*` of a rule's old side stands for any text, which its new side takes over.

    The first rule that fits a key counts. Raises WeightsError where two keys come to one name, or the stars differ.
    """
    for old, new in rules:
        if new.count("*") > old.count("*"):
            raise WeightsError(f"--rename {visible(old)}={visible(new)}: the new name has more `*` than the old one")
    patterns = [(old.split("*"), new.split("*")) for old, new in rules]
    found: dict[str, str] = {}
    taken: set[str] = set()
    for key in keys:
        name = key
        for pattern, pieces in patterns:
            stars = _stars(key, pattern)
            if stars is not None:
                name = "".join(a + b for a, b in zip(pieces, (*stars[: len(pieces) - 1], ""), strict=True))
                break
        if name in taken:
            raise WeightsError(f"two tensors of the file come to the name {visible(name)}")
        taken.add(name)
        found[key] = name
    return found


def _stars(key: str, pieces: Sequence[str]) -> list[str] | None:
    """What stands between the pieces of a pattern in a key, each star as short as can be; None where it does not fit.

    In time linear in the key, unlike what a regular expression with many stars may take.
    """
    first, *rest = pieces
    if not rest:
        return [] if key == first else None
    *middle, last = rest
    at, end = len(first), len(key) - len(last)
    if not key.startswith(first) or not key.endswith(last) or end < at:
        return None
    found = []
    for piece in middle:
        to = key.find(piece, at, end)
        if to < 0:
            return None
        found.append(key[at:to])
        at = to + len(piece)
    return [*found, key[at:end]]


def match(shapes: Mapping[str, tuple[int, ...]], state: Mapping[str, torch.Tensor]) -> Match:
    """Which tensors of a state_dict fit a network of these keys and shapes."""
    matched, differ = [], []
    for key, shape in shapes.items():
        if key in state:
            theirs = tuple(state[key].shape)
            if theirs == shape:
                matched.append(key)
            else:
                differ.append((key, theirs, shape))
    missing = tuple(k for k in shapes if k not in state)
    unexpected = tuple(k for k in state if k not in shapes)
    there = {k: tuple(state[k].shape) for k in unexpected}
    return Match(tuple(matched), missing, unexpected, tuple(differ), _rule(there, {k: shapes[k] for k in missing}))


def _rule(there: Mapping[str, tuple[int, ...]], wanted: Mapping[str, tuple[int, ...]]) -> tuple[str, str] | None:
    """The prefix to change, for at least half of the keys on one side to find one of their shape on the other."""
    best, rule = 1, None
    prefixes = {_prefixes(old, new) for old in list(there)[:ROWS] for new in list(wanted)[:ROWS]}
    for old, new in sorted(prefixes):
        names = {key: new + key[len(old) :] for key in there if key.startswith(old)}
        count = sum(wanted.get(name) == there[key] for key, name in names.items())
        if count > best and 2 * count >= min(len(there), len(wanted)):
            best, rule = count, (f"{old}*", f"{new}*")
    return rule


def _prefixes(old: str, new: str) -> tuple[str, str]:
    """What two keys begin with, up to the names of modules that end them both."""
    a, b = old.split("."), new.split(".")
    common = next(
        (i for i, (x, y) in enumerate(zip(reversed(a), reversed(b), strict=False)) if x != y), min(len(a), len(b))
    )
    return "".join(f"{part}." for part in a[: len(a) - common]), "".join(f"{part}." for part in b[: len(b) - common])


def fit(graph: Graph, path: Path, rules: Sequence[tuple[str, str]] = ()) -> tuple[dict[str, torch.Tensor], Match]:
    """The tensors of a file that fit a network, under the network's keys, and what became of each key.

    Raises OSError, WeightsError.
    """
    state = read_state(path)
    names = renamed(list(state), rules)
    state = {names[k]: v for k, v in state.items()}
    found = match(state_shapes(graph), state)
    if not found.matched:
        raise WeightsError(f"nothing of {visible(str(path))} fits {graph.name}\n{found.as_text()}")
    return {k: state[k] for k in found.matched}, found
