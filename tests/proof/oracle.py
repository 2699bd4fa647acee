"""Whether two built files behave the same in PyTorch: the reference for the proof's tests."""

from __future__ import annotations

import types
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

INITS = [name for name in dir(nn.init) if name.endswith("_") and not name.startswith("_")]


def run(text: str) -> dict[str, Any]:
    """The names of a file."""
    module = types.ModuleType("built")
    exec(compile(text, "<built>", "exec"), module.__dict__)
    return module.__dict__


@contextmanager
def noted() -> Iterator[dict[int, tuple[object, ...]]]:
    """Records how nn.init last filled each tensor."""
    found: dict[int, tuple[object, ...]] = {}
    alive: list[torch.Tensor] = []  # so that no address is used twice
    # nn.MultiheadAttention has imported some of these by name.
    modules = (nn.init, nn.modules.activation)
    before = {(module, name): getattr(module, name) for module in modules for name in INITS if hasattr(module, name)}

    def noting(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def fill(tensor: torch.Tensor, *args: object, **kwargs: object) -> Any:
            alive.append(tensor)
            found[tensor.data_ptr()] = (name, args, tuple(sorted(kwargs.items())))
            return function(tensor, *args, **kwargs)

        return fill

    try:
        for (module, name), function in before.items():
            setattr(module, name, noting(name, function))
        yield found
    finally:
        for (module, name), function in before.items():
            setattr(module, name, function)


def model_of(text: str, name: str) -> tuple[nn.Module, list[object], dict[str, Any]]:
    """A file's model in double precision, its observable state, and the file's names."""
    names = run(text)
    torch.manual_seed(0)
    with noted() as filled:
        model = names[name](dtype=torch.float64)
    state: list[object] = []
    own = {k: p for k, p in [*model.named_parameters(), *model.named_buffers()]}
    for key, tensor in model.state_dict().items():
        how = filled.get(tensor.data_ptr())
        drawn = how is not None and ("uniform" in str(how[0]) or "normal" in str(how[0]))
        fixed = how if drawn else tensor.flatten().tolist()
        state.append((key, tuple(tensor.shape), tensor.dtype, own[key].requires_grad, fixed))
    return model, state, names


def outcome(
    model: nn.Module,
    names: dict[str, Any],
    state: dict[str, torch.Tensor],
    inputs: list[list[torch.Tensor]],
    folded: bool,
) -> list[object]:
    """The outputs, gradients and statistics of a model for given weights, in both modes; an error is a result, too."""
    found: list[object] = [("training", model.training)]
    if folded:
        state = names["fold_batchnorms"](state) if "fold_batchnorms" in names else state
        found.append(("weights", {k: v for k, v in sorted(state.items())}))
    model.load_state_dict(state)
    for training in (False,) if folded else (True, False):
        model.train(training)
        for given in inputs:
            torch.manual_seed(1)
            tensors = [x.clone().requires_grad_() for x in given]
            kept = [x.detach().clone() for x in tensors]
            try:
                with torch.no_grad() if folded else torch.enable_grad():
                    out = model(*[x * 1 for x in tensors])
                    out = out if isinstance(out, tuple) else (out,)
                    found.append([(f, o) for f, o in zip(getattr(out, "_fields", "o"), out, strict=True)])
                    if not folded:
                        model.zero_grad()
                        sum(
                            (o * torch.linspace(0, 1, o.numel(), dtype=o.dtype).reshape(o.shape)).sum()
                            for o in out
                            if o is not None
                        ).backward()  # type: ignore[union-attr]
                        found.append([x.grad for x in tensors])
                        found.append({k: p.grad for k, p in sorted(model.named_parameters())})
                        found.append({k: b.clone() for k, b in sorted(model.named_buffers())})
                with torch.no_grad():
                    model(*kept)
            except (ValueError, RuntimeError) as error:
                found.append(type(error).__name__)
            found.append(kept)
    return found


def same(a: object, b: object) -> bool:
    """Whether two results are equal, up to rounding."""
    if isinstance(a, torch.Tensor) and isinstance(b, torch.Tensor):
        return a.shape == b.shape and torch.allclose(a, b, rtol=1e-9, atol=1e-12, equal_nan=True)
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    if isinstance(a, list | tuple) and isinstance(b, list | tuple):
        return len(a) == len(b) and all(same(x, y) for x, y in zip(a, b, strict=True))
    return a == b
