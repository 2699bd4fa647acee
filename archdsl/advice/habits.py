"""Calls as PyTorch, Keras and papers write them, put into this language's words: proposals, each to be tried."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from archdsl.common.source import Span
from archdsl.diagnostics import Fix, Proposal
from archdsl.ops import foreign
from archdsl.ops.base import Operation
from archdsl.syntax import tree


def rewritten(cls: type[Operation], item: tree.Call, values: Sequence[object], channels: object) -> Iterator[Proposal]:
    """The call of an operation with its name and parameters as they are here.

    `values` are those of the arguments, None where they are not known; `channels` are those that flow in. First
    without the argument that PyTorch has for them, where one is equal to them.
    """
    at = cls.channels_at
    arguments = item.arguments or ()
    positional = [a for a in arguments if a.name is None]
    known = list(cls.model_fields)
    if at is not None and at < len(positional) and type(channels) is int and values[at] == channels:
        kept = [a for a in arguments if a is not positional[at]]
        text = call_text(cls.name, kept, known)
        yield Proposal(f"what comes in is inferred: write `{text}`", Fix(bare(item), text))
    text = call_text(cls.name, arguments, known)
    edits = [(a, foreign.PARAMETERS[a.name or ""]) for a in arguments if foreign.PARAMETERS.get(a.name or "") in known]
    names = [(Span(a.span.source, a.span.start, a.span.start + len(a.name or "")), new) for a, new in edits]
    if item.name.name == cls.name and len(names) == 1 and not any(a.name in foreign.LEFT_OUT for a in arguments):
        yield Proposal(f"did you mean `{names[0][1]}`?", Fix(*names[0]))
    elif text != bare(item).text:
        why = [foreign.LEFT_OUT[a.name or ""] for a in arguments if a.name in foreign.LEFT_OUT and a.name not in known]
        yield Proposal(": ".join([*why[:1], f"write `{text}`"]), Fix(bare(item), text))


def call_text(name: str, arguments: Sequence[tree.Argument], known: Sequence[str]) -> str:
    """A call as this language writes it: parameters by their names here, without what is inferred."""
    parts = []
    for argument in arguments:
        own = argument.name
        if own in foreign.LEFT_OUT and own not in known:
            continue
        if own is None or own in known:
            parts.append(argument.span.text)
        else:
            parts.append(f"{foreign.PARAMETERS.get(own, own)} = {argument.value.span.text}")
    return f"{name}({', '.join(parts)})" if parts else name


def bare(item: tree.Call) -> Span:
    """A call without its label."""
    return Span(item.span.source, item.name.span.start, item.span.end)
