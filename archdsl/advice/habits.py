"""Translates calls in the style of PyTorch, Keras and papers into this language: proposals, to be tried."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from archdsl.common.source import Span
from archdsl.diagnostics import Fix, Proposal
from archdsl.ops import aliases
from archdsl.ops.base import Operation
from archdsl.syntax import tree


def rewritten(cls: type[Operation], item: tree.Call, values: Sequence[object], channels: object) -> Iterator[Proposal]:
    """The call of an operation with archdsl's name and parameters.

    `values` are the arguments' values, None if unknown; `channels` are those of the incoming tensor. First without the
    argument that PyTorch takes for them, if one equals them.
    """
    at = cls.channels_at
    arguments = item.arguments or ()
    positional = [a for a in arguments if a.name is None]
    known = list(cls.fields)
    if at is not None and at < len(positional) and type(channels) is int and values[at] == channels:
        kept = [a for a in arguments if a is not positional[at]]
        text = call_text(cls.name, kept, known)
        yield Proposal(f"the input channels are inferred: write `{text}`", Fix(bare(item), text))
    text = call_text(cls.name, arguments, known)
    edits = [(a, aliases.PARAMETERS[a.name or ""]) for a in arguments if aliases.PARAMETERS.get(a.name or "") in known]
    names = [(Span(a.span.source, a.span.start, a.span.start + len(a.name or "")), new) for a, new in edits]
    if item.name.name == cls.name and len(names) == 1 and not any(a.name in aliases.LEFT_OUT for a in arguments):
        yield Proposal(f"did you mean `{names[0][1]}`?", Fix(*names[0]))
    elif text != bare(item).text:
        why = [aliases.LEFT_OUT[a.name or ""] for a in arguments if a.name in aliases.LEFT_OUT and a.name not in known]
        yield Proposal(": ".join([*why[:1], f"write `{text}`"]), Fix(bare(item), text))


def call_text(name: str, arguments: Sequence[tree.Argument], known: Sequence[str]) -> str:
    """A call in this language: parameters by their names here, without those that are inferred."""
    parts = []
    for argument in arguments:
        own = argument.name
        if own in aliases.LEFT_OUT and own not in known:
            continue
        if own is None or own in known:
            parts.append(argument.span.text)
        else:
            parts.append(f"{aliases.PARAMETERS.get(own, own)} = {argument.value.span.text}")
    return f"{name}({', '.join(parts)})" if parts else name


def bare(item: tree.Call) -> Span:
    """A call without its label."""
    return Span(item.span.source, item.name.span.start, item.span.end)
