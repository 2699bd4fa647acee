"""Source of the functions that generated files need beside their classes: text that goes into a file as it is."""

from __future__ import annotations

FACTORY = '''class Factory(TypedDict, total=False):
    """Where the parameters of a module are made, and of which type."""

    device: torch.device | str | None
    dtype: torch.dtype | None'''

FILLED = '''def filled(module: nn.Module, frozen: bool = False, **numbers: list[Any]) -> nn.Module:
    """The module with parameters that start from given numbers, frozen ones for good."""
    for name, parameter in module.named_parameters():
        if name in numbers:
            parameter.data.copy_(torch.tensor(numbers[name]))
        parameter.requires_grad_(not (frozen and (name in numbers or not numbers)))
    return module'''

COUNTED_BEFORE = '''@contextmanager
def counted_before(*parts: Any) -> Iterator[None]:
    """Lets what runs again count statistics into copies, which are dropped."""
    owners = [part for part in parts if isinstance(part, nn.Module)]
    modules = [module for owner in owners for module in owner.modules()]
    kept = [(m, *b) for m in modules for b in m.named_buffers(recurse=False)]
    for owner, name, buffer in kept:
        setattr(owner, name, buffer.clone())
    try:
        yield
    finally:
        for owner, name, buffer in kept:
            setattr(owner, name, buffer)'''

FROM_BEFORE = '''def buffers_of(*parts: Any) -> list[tuple[nn.Module, str, Tensor]]:
    """All buffers of modules, with their owners."""
    owners = [part for part in parts if isinstance(part, nn.Module)]
    modules = [module for owner in owners for module in owner.modules()]
    return [(m, *b) for m in modules for b in m.named_buffers(recurse=False)]


def copied_buffers(*parts: Any) -> list[tuple[nn.Module, str, Tensor]]:
    """Copies of all buffers as they are now."""
    return [(owner, name, buffer.clone()) for owner, name, buffer in buffers_of(*parts)]


@contextmanager
def with_buffers(
    before: list[tuple[nn.Module, str, Tensor]], *parts: Any
) -> Iterator[None]:
    """Lets what runs again see the buffers that it saw at first, in copies that are dropped."""
    kept = buffers_of(*parts)
    for owner, name, buffer in before:
        setattr(owner, name, buffer)
    try:
        yield
    finally:
        for owner, name, buffer in kept:
            setattr(owner, name, buffer)'''

RECOMPUTED = '''def recomputed(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function that keeps its inputs alone and runs again in the backward pass."""

    @wraps(function)
    def run(*inputs: Any) -> Any:
        if not torch.is_grad_enabled() or torch.compiler.is_exporting():
            return function(*inputs)
        return checkpoint(function, *inputs, use_reentrant=False)

    return run'''

COUNTING_ONCE = """        if not torch.compiler.is_compiling():  # compiled, it counts once by itself
            return checkpoint(
                function,
                *inputs,
                use_reentrant=False,
                context_fn=lambda: (nullcontext(), counted_before(*inputs)),
            )
        return checkpoint("""

IN_SERIES = '''@recomputed
def recomputed_layers(x: Tensor, *layers: nn.Module) -> Any:
    """What layers give one after the other; the backward pass runs them again."""
    for layer in layers:
        x = layer(x)
    return x'''

OF_FEATURES = '''@recomputed
def recomputed_features(features: tuple[Tensor, ...], *layers: nn.Module) -> Any:
    """What layers give for gathered features; the backward pass runs them again."""
    x = torch.cat(features, 1)
    for layer in layers:
        x = layer(x)
    return x'''

JOINED = '''@recomputed
def recomputed_join(
    before: tuple[Tensor, ...],
    x: Tensor,
    after: tuple[Tensor, ...],
    *layers: nn.Module | None,
) -> Any:
    """What layers give one after the other, with a concat of `x` and others where None is;
    the backward pass runs them again.
    """
    for layer in layers:
        x = torch.cat([*before, x, *after], 1) if layer is None else layer(x)
    return x'''


ALIGNED = '''@recomputed
def recomputed_aligned_join(
    align: Callable[..., list[Tensor]],
    before: tuple[Tensor, ...],
    x: Tensor,
    after: tuple[Tensor, ...],
    *layers: nn.Module | None,
) -> Any:
    """What layers give one after the other, with a concat of `x` and others where None is,
    behind `align`, which makes sizes equal; the backward pass runs them again.
    """
    for layer in layers:
        x = torch.cat(align(*before, x, *after), 1) if layer is None else layer(x)
    return x'''

BRANCHED = '''@recomputed
def recomputed_branch(x: Tensor, *layers: nn.Module | None) -> Any:
    """What the layers before None give, and what all of them give; the backward pass runs
    them again.
    """
    given = x
    for layer in layers:
        if layer is None:
            given = x
        else:
            x = layer(x)
    return given, x'''


def recomputing(counts: bool, outside: bool) -> str:
    """The decorator of a function that runs again in the backward pass.

    `counts`: batchnorms run in it; `outside`: so does code from outside, whose results may depend on its buffers.
    """
    if outside:
        counting = COUNTING_ONCE.replace("counted_before(*inputs)", "with_buffers(copied_buffers(*inputs), *inputs)")
        return f"{FROM_BEFORE}\n\n\n{RECOMPUTED.replace('        return checkpoint(', counting)}"
    if not counts:
        return RECOMPUTED
    return f"{COUNTED_BEFORE}\n\n\n{RECOMPUTED.replace('        return checkpoint(', COUNTING_ONCE)}"


MEMBER = '''def member(module: nn.Module, *path: str) -> nn.Module:
    """A member whose name is also that of an attribute of every module."""
    for name in path:
        module = dict(module.named_children())[name]
    return module'''


HOLDER_OF = '''def holder_of(module: nn.Module, name: str) -> nn.Module:
    """A child that holds others; made where it is not there yet."""
    if name not in dict(module.named_children()):
        module._modules[name] = nn.Module()
    return dict(module.named_children())[name]'''
