"""Loads networks as nn.Modules by executing the text from `build`."""

from __future__ import annotations

import sys
import warnings
import weakref
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, SupportsIndex

from archdsl.built import execute
from archdsl.checker.parameters import from_python, plain
from archdsl.checker.spec import check_model, locate, model_info, pick
from archdsl.common import missing
from archdsl.common.choices import ADAPTATIONS, Adaptation
from archdsl.common.limits import Limits, budget, limited
from archdsl.common.source import Source
from archdsl.common.threads import forkable_lock
from archdsl.compiler import Network, build, check, checked, chosen
from archdsl.diagnostics import Diagnostics
from archdsl.graph import Graph
from archdsl.runtime.outside import allowed, allowing, permit

if TYPE_CHECKING:
    import torch

    from archdsl.augment.base import Pipeline
    from archdsl.common.choices import Budget, Recomputing


def load(
    spec: str | Path | Source,
    *,
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
    weights: str | Path | None = None,
    strict: bool = True,
    reshape_weights: bool = False,
    weights_of: Network | None = None,
    adapt_weights: Adaptation | None = None,
    inference: bool = False,
    recompute: Recomputing = "none",
    memory: int | str | Budget | None = None,
    parallel: bool = False,
    limits: Limits | None = None,
    allow_extern: str | Iterable[str] = (),
    **values: object,
) -> torch.nn.Module:
    """The network as a module, made by executing the text from `build`.

    That describes `inference`, `recompute`, `memory` and `parallel`.

    `allow_extern` are the packages, or full names `package.module:name`, of which the spec may run code (`extern`);
    a function must be allowed by its full name.

    `weights` is a state_dict of the training form in a .safetensors or .pth file. With `strict`, its keys and shapes
    must be the network's; without it, weights that fit are loaded, and a warning lists the others. `reshape_weights`
    accepts tensors of another shape with the same numbers, such as [64, 32] for [64, 32, 1, 1]. `weights_of` is the
    network that the weights are of, if it was edited since: they are then matched by the structure of both, as `diff`
    pairs it; `adapt_weights` converts kernels for other input channels (`mean` or `slice`). A second call with the same
    text and values reuses the class, like a second import. Raises SpecError, OSError, WeightsError if the weights do
    not fit, and ValueError for an adaptation without `weights_of`.
    """
    if adapt_weights is not None and (weights_of is None or adapt_weights not in ADAPTATIONS):
        raise ValueError(f"adapt_weights is one of {', '.join(ADAPTATIONS)}, and needs weights_of")
    how = chosen(inference, recompute, memory)
    with limited(limits), allowing(allow_extern):
        network = _kept_class(spec, values, inference, how, parallel)(device=device, dtype=dtype)
    if weights is not None:
        from archdsl.runtime.weights import WeightsError, fit  # only if there are some

        graph = check(spec, limits=limits, **values)
        state, match = fit(
            graph,
            Path(weights),
            reshape=reshape_weights,
            before=None if weights_of is None else checked(weights_of),
            adapt=adapt_weights,
        )
        if strict and not match.complete:
            raise WeightsError(f"{match.as_text()}\nhelp: strict=False loads what fits")
        if inference:
            if match.missing or match.shapes:
                with allowing(allow_extern):
                    state = {**instantiate(graph).state_dict(), **state}
            state = folded(network, state)
        network.load_state_dict(state, strict=False)
        if not match.complete or match.doubts:
            warnings.warn(match.as_text(), stacklevel=2)
    return network


@dataclass(frozen=True, slots=True)
class _ClassKey:
    """The key of a class made by `load`: texts, values, options."""

    files: tuple[tuple[str, str], ...]
    model: str | None
    values: str
    inference: bool
    recompute: Recomputing
    parallel: bool
    limits: Limits
    allowed: frozenset[str]


KEPT = 32
"""How many classes `load` caches, the most recently used."""

_classes: dict[_ClassKey, type[torch.nn.Module]] = {}
_graphs: weakref.WeakKeyDictionary[type[torch.nn.Module], Graph] = weakref.WeakKeyDictionary()
_lock = forkable_lock()


def _kept_class(
    spec: str | Path | Source,
    values: Mapping[str, object],
    inference: bool,
    recompute: Recomputing,
    parallel: bool,
) -> type[torch.nn.Module]:
    """The class of a spec: cached from an earlier call, or new."""
    diagnostics = Diagnostics()
    spec_file, name = locate(spec, diagnostics)
    model = pick(spec_file, name, diagnostics)
    # The text of an array may be cut short.
    values = plain(values, model_info(spec_file, model, diagnostics).parameters)
    key = _ClassKey(
        spec_file.files(),
        name,
        repr(sorted(values.items())),
        inference,
        recompute,
        parallel,
        budget().limits,
        allowed(),
    )
    if (made := _classes.get(key)) is None:
        graph = check_model(spec_file, model, from_python(spec_file, model, values, diagnostics), diagnostics)
        made = class_of(graph, inference=inference, recompute=recompute, parallel=parallel)
    with _lock:
        _classes.pop(key, None)
        _classes[key] = made  # after those used earlier
        while len(_classes) > KEPT:
            del _classes[next(iter(_classes))]
    return made


def folded(network: torch.nn.Module, state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The state_dict for inference, converted from that of the training form."""
    fold = getattr(sys.modules[type(network).__module__], "fold_batchnorms", dict)
    found: dict[str, torch.Tensor] = fold(state)
    return found


def instantiate(
    graph: Graph,
    *,
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
    inference: bool = False,
    recompute: Recomputing = "none",
) -> torch.nn.Module:
    """A checked network as a module; for `inference` and `recompute` see `build`."""
    return class_of(graph, inference=inference, recompute=recompute)(device=device, dtype=dtype)


def class_of(
    graph: Graph, *, inference: bool = False, recompute: Recomputing = "none", parallel: bool = False
) -> type[torch.nn.Module]:
    """The class that the built source of a network defines; for the options see `build`.

    Raises SpecError if it uses code from outside that is not allowed here (`runtime.outside`).
    """
    permit(graph)
    module = execute(build(graph, inference=inference, recompute=recompute, parallel=parallel), graph.name)
    classes: list[type[torch.nn.Module]] = [
        c for c in vars(module).values() if isinstance(c, type) and c.__module__ == module.__name__
    ]
    found = classes[-1]
    found.__reduce_ex__ = _pickled  # type: ignore[assignment]
    with _lock:
        _graphs[found] = graph
    return found


def _pickled(network: torch.nn.Module, protocol: SupportsIndex) -> str | tuple[Any, ...]:
    """How pickle takes a loaded network: as any object, after saying where the pickle can be opened."""
    if sys._getframe(1).f_globals.get("__name__") != "copy":  # a copy stays in this process
        name = type(network).__name__
        warnings.warn(
            f"this pickles a {name} that archdsl.load made: another process can open it only after it has loaded the "
            "same spec. To open it anywhere, save its state_dict(), or use the class that `archdsl build SPEC -o "
            f"{name.lower()}.py` writes",
            stacklevel=2,
        )
    return object.__reduce_ex__(network, protocol)


def graph_of(network: torch.nn.Module) -> Graph | None:
    """The checked network of which a module was made here; None if it comes from elsewhere."""
    return _graphs.get(type(network))


def load_augment(spec: str | Path | Source, **values: object) -> torch.nn.Module:
    """A model's augmentation, as the module that `build` writes next to the model; it needs kornia.

    It maps images [N, C, H, W] to augmented ones. Raises SpecError, and ValueError if the model has no augmentation.
    """
    graph = check(spec, **values)  # type: ignore[arg-type]  # a model's parameter of the name limits is out of reach
    if graph.augment is None:
        raise ValueError(f"{graph.name} is not augmented: `model {graph.name} augmented NAME {{ … }}`")
    return instantiate_augment(graph.augment)


def instantiate_augment(pipeline: Pipeline) -> torch.nn.Module:
    """An augmentation as a module. Raises ImportError if kornia is not installed."""
    from archdsl.backends.augment_source import write_alone, write_augmentation

    companion = write_augmentation(pipeline, "")
    module = execute(write_alone(companion), f"augment_{pipeline.name}")
    with missing.named():
        augmentation: torch.nn.Module = getattr(module, companion.name)()
    return augmentation
