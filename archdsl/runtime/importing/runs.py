"""Runs of equal items as `repeat`, or as `for` if only a number in their labels counts up."""

from __future__ import annotations

import re
from collections.abc import Iterator

from archdsl.runtime.importing.chains import Chain, Node, Text, key, own_nodes, structure_key, walk
from archdsl.runtime.importing.joining import is_name

_NUMBER = re.compile(r"\d+")
LONGEST = 8
"""The most items that repeat together."""


def compact(chain: Chain) -> Chain:
    """A chain with its runs as loops, also within its bodies."""
    for node in chain:
        if node.kind != "use":
            node.bodies = [compact(body) for body in node.bodies]
    found: Chain = []
    at = 0
    while at < len(chain):
        if (steps := rates(chain, at)) is not None:
            found.append(steps)
            at += int(str(steps.arguments["count"]))
            continue
        period, rounds = best(chain, at)
        if rounds == 1 and (begun := flowing(chain, at)) is not None:
            found.append(begun)
            period, rounds = best(chain, at)
        if rounds == 1 and (numbered := table(chain, at)) is not None:
            found.append(numbered[0])
            at += numbered[1]
            continue
        if rounds > 1 and not is_late(chain, at, period, rounds):
            for start in range(at + period, at + period * rounds, period):
                differing(chain[at : at + period], chain[start : start + period])
            found.append(loop(chain[at : at + period], chain[at + period : at + 2 * period], rounds))
            at += period * rounds
        else:
            found.append(chain[at])
            at += 1
    return found


def flowing(chain: Chain, at: int) -> Node | None:
    """The name in a parallel in the place of which later ones have what flows in; that flows in here now, too.

    None if there is no such run: `(x, y) -> f -> (it, y) -> f` is `x -> (it, y) -> f -> (it, y) -> f`.
    """
    node = chain[at]
    if node.kind != "parallel" or not all(map(is_name, node.bodies)):
        return None
    for i, body in enumerate(node.bodies):
        node.bodies[i] = []
        if best(chain, at)[1] > 1:
            return body[0]
        node.bodies[i] = body
    return None


def differing(first: Chain, other: Chain) -> None:
    """Forgets the channels before the nodes of a round where those of another round have others."""
    for one, two in zip(walk(first), walk(other), strict=True):
        if one.into != two.into:
            one.into = None


FEWEST = 4
"""So few calls with one number each are written out."""
WIDEST = 110
"""The longest list of numbers in the head of a loop, in characters."""


def table(chain: Chain, at: int) -> tuple[Node, int] | None:
    """A loop over the numbers in which alone calls of one block differ, and how many calls it is; None for a few."""
    part: list[Node] = chain[at : at + 1]
    name = ""
    while at + len(part) < len(chain) and (differ := difference(part[0], node := chain[at + len(part)])) is not None:
        counted = distance(part[:1], [node])
        if len({name, *differ} - {""}) > 1 or counted not in ((len(part),) if own_labels(part[:1]) else (0,)):
            break
        name = name or "".join(differ)
        part.append(node)
    numbers = [node.arguments.get(name) for node in part]
    text = f"[{', '.join(map(str, numbers))}]"
    if len(part) < FEWEST or not all(type(n) is int for n in numbers) or len(text) > WIDEST:
        return None
    if len({*numbers[1:]}) == 1:  # the first, and a run of the others, say it better
        return None
    steps = loop(part[:1], part[1:2], len(part))
    for other in part[1:]:
        differing(part[:1], [other])
    part[0].arguments[name] = Text(name)
    first = {"first": steps.arguments["first"]} if steps.kind == "for" else {}
    return Node("for", name, {**first, "table": Text(text)}, steps.bodies, into=steps.into), len(part)


def difference(one: Node, two: Node) -> list[str] | None:
    """The arguments in which two calls of a block differ; None if they are no such calls."""
    if one.kind != "use" or two.kind != "use" or one.name is not two.name or one.names or two.names:
        return None
    if is_labelled(one) != is_labelled(two) or masked([one])[0][3] != masked([two])[0][3]:  # type: ignore[index]
        return None
    return [k for k, v in one.arguments.items() if key(v) != key(two.arguments[k])]


RATES = (0.1, 0.2, 0.3, 0.4, 0.5)
"""The largest drop rates of networks that drop later blocks more often."""


def rates(chain: Chain, at: int) -> Node | None:
    """A loop over calls of one block whose only difference is a rate that grows by equal steps, at least three."""
    part = [
        node for node in chain[at : at + 1] if node.kind == "use" and not node.names and (node.auto or not node.label)
    ]
    while part and at + len(part) < len(chain) and (name := rate_of(part[0], chain[at + len(part)])) is not None:
        values = [float(str(node.arguments[name])) for node in (*part, chain[at + len(part)])]
        if abs(values[-1] - values[0] - len(part) * (values[1] - values[0])) > 1e-9:
            break
        part.append(chain[at + len(part)])
    if len(part) < 3:
        return None
    name = str(rate_of(part[0], part[1]))
    first, second = (float(str(node.arguments[name])) for node in part[:2])
    step = second - first
    for most in RATES if step > 0 else ():
        parts, start = most / step, first / step
        if abs(parts - round(parts)) < 1e-6 and abs(start - round(start)) < 1e-6:
            part[0].arguments[name] = Text(f"{most} * i / {round(parts)}")
            return Node(
                "for", arguments={"first": round(start), "count": len(part)}, bodies=[part[:1]], into=part[0].into
            )
    return None


def rate_of(one: Node, two: Node) -> str | None:
    """The argument in which alone two calls of a block differ, if it is a number with a fraction in both."""
    if two.kind != "use" or one.name is not two.name or two.names or not (two.auto or not two.label):
        return None
    differ = [k for k, v in one.arguments.items() if key(v) != key(two.arguments[k])]
    if len(differ) != 1 or not all(isinstance(node.arguments[differ[0]], float) for node in (one, two)):
        return None
    return differ[0]


def is_late(chain: Chain, at: int, period: int, rounds: int) -> bool:
    """Whether the run reads better from the next item on: it begins with what ends the part before it (a pooling)."""
    end = at + period * rounds
    begins = chain[at].kind == "op" and not chain[at].weighted and period > 1
    return begins and structure_key(chain[at : at + 1]) == structure_key(chain[end : end + 1])


def best(chain: Chain, at: int) -> tuple[int, int]:
    """How many items from here on repeat, and how often: what covers most, in the shortest period."""
    most = (1, 1)
    for period in range(1, min(LONGEST, (len(chain) - at) // 2) + 1):
        rounds = rounds_of(chain, at, period)
        if rounds > 1 and period * (rounds - 1) > most[0] * (most[1] - 1):
            most = (period, rounds)
    return most


def rounds_of(chain: Chain, at: int, period: int) -> int:
    first = chain[at : at + period]
    if first[0].kind == "ref" or any(label_names(first)):
        return 1
    wanted, rounds = masked(first), 1
    step: int | None = None
    while masked(part := chain[at + rounds * period : at + (rounds + 1) * period]) == wanted:
        moved = distance(first, part)
        if moved is None or moved not in (0, rounds) or (step is not None and (moved > 0) != (step > 0)):
            break
        step = moved
        rounds += 1
    return rounds


def label_names(chain: Chain) -> Iterator[str]:
    """The names by which results of a chain are referred to."""
    return (name for node in own_nodes(chain) for name in node.names)


def is_labelled(node: Node) -> bool:
    """Whether a label is written: the number of an item without one is not, but that of a body is."""
    return node.label is not None and (not node.auto or node.kind == "body")


def own_labels(chain: Chain) -> list[str]:
    return [str(node.label) for node in own_nodes(chain) if is_labelled(node)]


def masked(chain: Chain) -> object:
    """A key that is equal for chains that differ only in the numbers of their own labels."""
    labels = [(node, node.label) for node in own_nodes(chain) if node.label is not None]
    for node, label in labels:
        node.label = None if not is_labelled(node) else _NUMBER.sub("#", label)
    try:
        return structure_key(chain)
    finally:
        for node, label in labels:
            node.label = label


def distance(one: Chain, two: Chain) -> int | None:
    """By how much all labels of the second chain count more; None if they do not agree."""
    found = set()
    for a, b in zip(own_labels(one), own_labels(two), strict=True):
        numbers = [(int(x), int(y)) for x, y in zip(_NUMBER.findall(a), _NUMBER.findall(b), strict=True)]
        moves = {y - x for x, y in numbers if x != y}
        if len(moves) != 1:
            return None
        found |= moves
    return found.pop() if len(found) == 1 else (0 if not found else None)


def loop(first: Chain, second: Chain, rounds: int) -> Node:
    """The loop over a run that begins with two rounds."""
    labels = own_labels(first)
    if not labels:
        return Node("repeat", arguments={"count": rounds}, bodies=[first], into=first[0].into)
    start: int | None = None
    for node, other in zip(
        [n for n in own_nodes(first) if is_labelled(n)],
        [n for n in own_nodes(second) if is_labelled(n)],
        strict=True,
    ):
        assert node.label is not None and other.label is not None
        numbers = list(zip(_NUMBER.finditer(node.label), _NUMBER.finditer(other.label), strict=True))
        at = next(a for a, b in numbers if a[0] != b[0])
        start = int(at[0]) if start is None else start
        ahead = int(at[0]) - start
        number = f"i {'+' if ahead > 0 else '-'} {abs(ahead)}" if ahead else "i"
        node.label = f"{node.label[: at.start()]}{{{number}}}{node.label[at.end() :]}"
    return Node("for", arguments={"first": start, "count": rounds}, bodies=[first], into=first[0].into)
