"""Weight files: read without executing code, matched to a network by key and shape, and written.

torch is imported inside the functions that use tensors: matching itself only needs a graph's facts.
"""

from __future__ import annotations

import math
import stat
import warnings
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from archdsl.common.choices import Adaptation
from archdsl.diagnostics import visible
from archdsl.graph import Graph
from archdsl.ops.base import Weight
from archdsl.ops.fields import times

if TYPE_CHECKING:  # where tensors are read or written, each function imports torch itself
    import torch

WRAPPERS = ("state_dict", "model", "network", "model_state_dict")
"""The keys under which checkpoints store a state_dict."""


ROWS = 12
"""The maximum number of rows of each kind in a report."""

MOST_RULES = 4
"""The maximum number of renaming rules that a report proposes."""

Rule: TypeAlias = tuple[str, str]
"""A renaming of keys: OLD and NEW, in which a `*` stands for any text."""

BOMB = 100
"""The maximum compression ratio of a checkpoint. PyTorch does not compress them at all."""

EDITED = "are they of this network before an edit? `--from OLD`, or `load(…, weights_of=OLD)`, matches by structure"


class WeightsError(Exception):
    """A file without weights, or weights that do not fit a network."""


@dataclass(frozen=True, slots=True)
class Match:
    """The result for each key. `shapes` has (key, shape in the file, shape in the network) of mismatched shapes.

    `reshaped` are matched ones with another shape in the file, in the same format; `adapted` are those whose values
    were computed for other input channels. `renamed` has (key in the file, key in the network) of tensors that were
    matched by the structure of an earlier network. `rules` are renamings by which more tensors match: those given, and
    new ones, all of which were tried. `notes` are remarks on the matched tensors, `doubts` probable mistakes.
    """

    matched: tuple[str, ...]
    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    shapes: tuple[tuple[str, tuple[int, ...], tuple[int, ...]], ...]
    rules: tuple[Rule, ...] = ()
    reshaped: tuple[tuple[str, tuple[int, ...], tuple[int, ...]], ...] = ()
    adapted: tuple[tuple[str, tuple[int, ...], tuple[int, ...]], ...] = ()
    renamed: tuple[tuple[str, str], ...] = ()
    helps: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    doubts: tuple[str, ...] = ()

    @property
    def alike(self) -> list[str]:
        """The keys with another shape but the same numbers."""
        return [key for key, theirs, ours in self.shapes if same_numbers(theirs, ours)]

    @property
    def complete(self) -> bool:
        """Whether every tensor of the network and of the file was matched."""
        return not (self.missing or self.unexpected or self.shapes)

    def as_text(self) -> str:
        """`matched 318 of 320 tensors`, and a table of the others, summarised by module if a whole module is of one
        kind.
        """
        differ, turned = _differences(self.shapes), _differences((*self.reshaped, *self.adapted))
        met = [*self.matched, *differ]
        lines = [f"matched {len(self.matched)} of {len(met) + len(self.missing)} tensors"]
        for kind, rows in (
            ("renamed", _by_prefix(self.renamed)),
            ("reshaped", [(key, 1) for key, _, _ in self.reshaped]),
            ("adapted", [(key, 1) for key, _, _ in self.adapted]),
            ("another shape", [(key, 1) for key in differ]),
            ("missing", _by_module(self.missing, met)),
            ("unexpected", _by_module(self.unexpected, met)),
        ):
            for name, count in rows[:ROWS]:
                lines.append(f"  {kind:13} {count:6,}  {_shown(name)}{(differ | turned).get(name, '')}")
            if more := sum(count for _, count in rows[ROWS:]):
                lines.append(f"  {kind:13} {more:6,}  …")
        if self.rules:
            options = " ".join(f"--rename '{_shown(old)}={_shown(new)}'" for old, new in self.rules)
            lines.append(f"help: `{options}` renames them to the network's keys")
        if alike := self.alike:
            which = f"{len(alike)} of them have" if len(alike) > 1 else f"{_shown(alike[0])} has"
            way = "`archdsl weights --reshape`, or `load(…, reshape_weights=True)`, accepts them"
            lines.append(f"help: {which} the same numbers in the same order: {way}")
        lines += [f"help: {help}" for help in self.helps]
        lines += [f"note: {note}" for note in self.notes]
        lines += [f"warning: {doubt}" for doubt in self.doubts]
        return "\n".join(lines)

    def as_data(self) -> dict[str, object]:
        return {
            "matched": list(self.matched),
            "missing": list(self.missing),
            "unexpected": list(self.unexpected),
            "shapes": [{"key": k, "file": list(a), "network": list(b)} for k, a, b in self.shapes],
            "reshaped": [{"key": k, "file": list(a), "network": list(b)} for k, a, b in self.reshaped],
            "adapted": [{"key": k, "file": list(a), "network": list(b)} for k, a, b in self.adapted],
            "renamed": [{"file": a, "network": b} for a, b in self.renamed],
            "notes": list(self.notes),
            "doubts": list(self.doubts),
        }


def _differences(shapes: Sequence[tuple[str, tuple[int, ...], tuple[int, ...]]]) -> dict[str, str]:
    return {key: f"  {_times(theirs)} in the file, {_times(ours)} here" for key, theirs, ours in shapes}


def same_numbers(theirs: tuple[int, ...], ours: tuple[int, ...]) -> bool:
    """Whether tensors of two shapes have the same weights in the same order.

    They differ only in axes of size 1 (`linear` and `conv(…, 1)`), or one is that of a `linear` after a `flatten`, and
    the other, of a convolution, has an axis for each of channels, height and width.
    """
    if math.prod(theirs) != math.prod(ours):
        return False
    if [n for n in theirs if n != 1] == [n for n in ours if n != 1]:
        return True
    flat, deep = sorted((theirs, ours), key=len)
    return len(flat) == 2 and len(deep) > 2 and flat[0] == deep[0]


def _by_module(keys: Sequence[str], others: Sequence[str]) -> list[tuple[str, int]]:
    """The keys in rows with their counts: `layer1.*` if it stands for all keys below it and no others."""
    taken = {key[:dot] for key in others for dot in _dots(key)}
    rows: dict[str, int] = {}
    for key in keys:
        whole = next((f"{key[:dot]}.*" for dot in _dots(key) if key[:dot] not in taken), key)
        rows[whole] = rows.get(whole, 0) + 1
    return list(rows.items())


def _by_prefix(pairs: Sequence[tuple[str, str]]) -> list[tuple[str, int]]:
    """Renamed keys in rows with their counts: `layer1.2.* from layer1.1.*`."""
    rows: dict[str, int] = {}
    for old, new in pairs:
        before, after = _prefixes(old, new)
        row = f"{new} from {old}" if before == f"{old}." else f"{after}* from {before}*"
        rows[row] = rows.get(row, 0) + 1
    return list(rows.items())


def _dots(key: str) -> list[int]:
    """The positions in a key at which module names end, outermost first."""
    return [i for i, character in enumerate(key) if character == "."]


def _shown(key: object) -> str:
    """A key of a file, which may contain anything, safe for display."""
    text = visible(str(key))
    return text if len(text) <= 300 else text[:299] + "…"


def _times(shape: tuple[int, ...]) -> str:
    return times(shape) or "a number"


def state_shapes(graph: Graph) -> dict[str, tuple[int, ...]]:
    """The keys and shapes of the network's state_dict, in order of placement."""
    return {key: weight.shape for key, weight in state_weights(graph).items()}


def state_weights(graph: Graph) -> dict[str, Weight]:
    """The kind of value under each key of the network's state_dict, in order of placement."""
    return {weight.key(node.path): weight for node, weight in graph.weights()}


def read_state(path: Path) -> dict[str, torch.Tensor]:
    """The state_dict in a .safetensors or .pth file, bare or inside a checkpoint, on the CPU.

    Executes no code of the file: only tensors and plain containers are read from pickles. Raises OSError, WeightsError.
    """
    name = visible(str(path))
    if not stat.S_ISREG(path.stat().st_mode):
        raise WeightsError(f"{name} is not a regular file, and weights are read only from those")
    if _is_bomb(path):
        raise WeightsError(f"{name} unpacks to more than {BOMB} times its size, so it is not a weights file")
    import torch  # a state_dict consists of tensors

    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file  # needed only for files of this kind

            found: Any = load_file(path)
        else:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # about protocols that it can read anyway
                found = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, ImportError):
        raise
    except Exception:  # the readers raise many exceptions for invalid files, or files that would execute code
        raise WeightsError(
            f"{name} contains no weights that can be read without executing code; save only them: "
            "torch.save(model.state_dict(), FILE)"
        ) from None
    for key in WRAPPERS:
        if isinstance(found, dict) and isinstance(found.get(key), dict):
            found = found[key]
    if not isinstance(found, dict):
        raise WeightsError(
            f"{name} contains no state_dict (a dict of tensors by name), but an object of type {_kind(found)}"
        )
    state = _tensors(found)
    if not state:
        keys = ", ".join(f"`{_shown(key)}` ({_kind(value)})" for key, value in [*found.items()][:ROWS])
        raise WeightsError(
            f"{name} contains no state_dict (no tensors by name)" + (f"; it holds {keys}" if keys else "")
        )
    for key, tensor in state.items():
        if (kind := _unfit(tensor)) is not None:
            raise WeightsError(
                f"{name}: {_shown(key)} {kind}, but weights must be dense real tensors: remove or convert it before "
                "saving"
            )
    return state


def _tensors(found: dict[object, Any]) -> dict[str, torch.Tensor]:
    """The tensors of a dict by key; if it has none, those of its nested dicts.

    If only one of the dicts contains tensors, its keys are used; otherwise keys are joined by dots, like modules.
    """
    import torch

    def direct(values: dict[object, Any]) -> dict[str, torch.Tensor]:
        return {str(key): value for key, value in values.items() if isinstance(value, torch.Tensor)}

    if (state := direct(found)) or not found:
        return state
    inside = [inner for value in found.values() if isinstance(value, dict) and (inner := direct(value))]
    if len(inside) == 1:
        return inside[0]
    seen = {id(found)}  # a dict in a file may contain itself
    waiting: list[tuple[str, dict[object, Any]]] = [("", found)]
    while waiting:
        before, here = waiting.pop()
        for key, value in here.items():
            if isinstance(value, torch.Tensor):
                state[f"{before}{key}"] = value
            elif isinstance(value, dict) and id(value) not in seen:
                seen.add(id(value))
                waiting.append((f"{before}{key}.", value))
    return state


def _kind(value: object) -> str:
    """The kind of a value in a file, in a familiar word."""
    return visible(type(value).__name__)


def _unfit(tensor: torch.Tensor) -> str | None:
    """Why a tensor lacks dense real numbers; None if it has them."""
    import torch  # for its dtypes and layouts

    if tensor.is_nested:
        return "is nested"
    if tensor.is_quantized:
        return "is quantised"
    if tensor.layout != torch.strided:
        return f"is sparse ({str(tensor.layout).removeprefix('torch.')})"
    if tensor.is_meta:
        return "has no data (it is on the meta device)"
    return "is complex" if tensor.is_complex() else None


def _is_bomb(path: Path) -> bool:
    """Whether a zip archive, such as a PyTorch checkpoint, claims to unpack to far more than its size."""
    try:
        with zipfile.ZipFile(path) as archive:
            return sum(part.file_size for part in archive.infolist()) > BOMB * path.stat().st_size
    except (zipfile.BadZipFile, ValueError, NotImplementedError):
        return False  # another format, which its reader checks


def write_state(path: Path, state: Mapping[str, torch.Tensor]) -> bytes:
    """The bytes of a state_dict for a file of this name: .safetensors, else PyTorch's own format."""
    import io

    import torch  # its format

    if path.suffix == ".safetensors":
        from safetensors.torch import save  # needed only for files of this kind

        # safetensors rejects tensors that share memory: give each its own.
        data: bytes = save({k: v.detach().clone(memory_format=torch.contiguous_format) for k, v in state.items()})
        return data
    buffer = io.BytesIO()
    # A view of a part of a tensor would save the whole tensor.
    whole = {k: v if v.untyped_storage().nbytes() == v.nbytes else v.clone() for k, v in state.items()}
    torch.save(whole, buffer)
    return buffer.getvalue()


def renamed(keys: Sequence[str], rules: Sequence[tuple[str, str]]) -> dict[str, str]:
    """Renames keys. A `*` in a rule's old side matches any text, which the `*` of its new side repeats.

    The first rule that matches a key applies. Raises WeightsError if two keys get the same name, or the stars differ.
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
            raise WeightsError(f"two tensors of the file would be named {visible(name)}")
        taken.add(name)
        found[key] = name
    return found


def _stars(key: str, pieces: Sequence[str]) -> list[str] | None:
    """The texts that the stars of a pattern match in a key, each as short as possible; None if it does not match.

    Takes linear time, unlike a regular expression with many stars.
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


def match(shapes: Mapping[str, tuple[int, ...]], state: Mapping[str, torch.Tensor], *, reshape: bool = False) -> Match:
    """Matches the tensors of a state_dict to a network's keys and shapes.

    With `reshape`, tensors of another shape with the same numbers match, too.
    """
    matched, differ, turned = [], [], []
    for key, shape in shapes.items():
        if key in state:
            theirs = tuple(state[key].shape)
            if theirs == shape:
                matched.append(key)
            elif reshape and same_numbers(theirs, shape):
                matched.append(key)
                turned.append((key, theirs, shape))
            else:
                differ.append((key, theirs, shape))
    missing = tuple(k for k in shapes if k not in state)
    unexpected = tuple(k for k in state if k not in shapes)
    return Match(tuple(matched), missing, unexpected, tuple(differ), reshaped=tuple(turned))


def proposed(
    shapes: Mapping[str, tuple[int, ...]], there: Mapping[str, tuple[int, ...]], rules: Sequence[Rule] = ()
) -> tuple[Rule, ...]:
    """`rules` with new ones before them, by which more tensors of a file match; none if there are none.

    `there` are the keys of the file with their shapes. Every rule was tried together with those behind it: more tensors
    match, and no two tensors get one name.
    """
    found, best = tuple(rules), _count(shapes, there, rules)
    while len(found) < len(rules) + MOST_RULES:
        names = renamed(list(there), found)
        left = [key for key, name in names.items() if shapes.get(name) != there[key] and name not in shapes]
        wanted = [key for key in shapes if key not in set(names.values())]
        pairs = sorted({_prefixes(old, new) for old in left[:ROWS] for new in wanted[:ROWS]})
        tried = [(_count(shapes, there, [(f"{a}*", f"{b}*"), *found]), a, b) for a, b in pairs]
        count, old, new = max(tried, key=lambda one: one[0], default=(0, "", ""))
        concerned = min(sum(k.startswith(old) for k in left), sum(k.startswith(new) for k in wanted))
        if count < best + 2 or 2 * (count - best) < concerned:
            break
        found, best = ((f"{old}*", f"{new}*"), *found), count
    return found if len(found) > len(rules) else ()


def _count(shapes: Mapping[str, tuple[int, ...]], there: Mapping[str, tuple[int, ...]], rules: Sequence[Rule]) -> int:
    """How many tensors match under these rules; -1 if two of them would get one name."""
    try:
        names = renamed(list(there), rules)
    except WeightsError:
        return -1
    return sum(shapes.get(name) == there[key] for key, name in names.items())


def _prefixes(old: str, new: str) -> tuple[str, str]:
    """The common prefix of two keys, up to the module names that end them both."""
    a, b = old.split("."), new.split(".")
    common = next(
        (i for i, (x, y) in enumerate(zip(reversed(a), reversed(b), strict=False)) if x != y), min(len(a), len(b))
    )
    return "".join(f"{part}." for part in a[: len(a) - common]), "".join(f"{part}." for part in b[: len(b) - common])


def fit(
    graph: Graph,
    path: Path,
    rules: Sequence[Rule] = (),
    *,
    reshape: bool = False,
    before: Graph | None = None,
    adapt: Adaptation | None = None,
) -> tuple[dict[str, torch.Tensor], Match]:
    """The tensors of a file that fit a network, under the network's keys, and the result for each key.

    `reshape` converts those of another shape with the same numbers. `before` is the network that the weights are of, if
    it has been edited since: tensors are then matched by the structure of both, as `diff` pairs it, and `adapt`
    converts kernels that read other input channels (`runtime.edited`). Raises OSError, WeightsError.
    """
    original = read_state(path)
    names = renamed(list(original), rules)
    state = {names[k]: v for k, v in original.items()}
    weights = state_weights(graph)
    shapes = {key: weight.shape for key, weight in weights.items()}
    if before is None:
        found = match(shapes, state, reshape=reshape)
        there = {key: tuple(tensor.shape) for key, tensor in original.items()}
        better = proposed(shapes, there, rules)
        whole = found.complete or _count(shapes, there, better) == len(shapes)
        found = replace(found, rules=better, helps=() if whole else (EDITED,))
    else:
        from archdsl.runtime.edited import matched  # which imports this module

        state, found = matched(before, graph, state, adapt)
    if not found.matched:
        raise WeightsError(f"no tensor of {visible(str(path))} fits {graph.name}\n{found.as_text()}")
    kept = {k: state[k].reshape(weights[k].shape) for k in found.matched}
    notes, doubts = _told({k: v for k, v in kept.items() if weights[k].dtype == "float"})
    return kept, replace(found, notes=(*found.notes, *notes), doubts=(*found.doubts, *doubts))


def _told(state: Mapping[str, torch.Tensor]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Remarks on tensors that are converted to floats, and probable mistakes."""
    import torch

    types: dict[torch.dtype, list[str]] = {}
    for key, tensor in state.items():
        types.setdefault(tensor.dtype, []).append(key)
    notes, doubts = [], []
    for dtype, keys in types.items():
        name = str(dtype).removeprefix("torch.")
        if not dtype.is_floating_point:
            doubts.append(f"{_named(keys)} of {name}, not floats: quantised weights need their scales, too")
        elif dtype != torch.float32:
            notes.append(f"{_named(keys)} of {name}, and are converted to the module's dtype when loaded")
    wild = [key for key, tensor in state.items() if not tensor.to(torch.float32).isfinite().all()]
    if wild:
        doubts.append(f"{_named(wild)} not finite in float32: NaN, infinite, or beyond its range")
    return tuple(notes), tuple(doubts)


def _named(keys: Sequence[str]) -> str:
    """`conv1.weight is`, `12 tensors, such as conv1.weight, are`."""
    return f"{_shown(keys[0])} is" if len(keys) == 1 else f"{len(keys)} tensors, such as {_shown(keys[0])}, are"
