"""Shrinks a failing spec while it fails in the same way: `python -m tests.shrinking FIRST LAST` tries these seeds."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator

from tests.helpers import graph_of

OPEN, CLOSE = "([{", ")]}"


def depth(text: str) -> int | None:
    """The number of unclosed brackets in a text; None if it closes one that it did not open."""
    level = 0
    for character in re.sub(r'"(?:[^"\\]|\\.)*"', "", text):
        level += (character in OPEN) - (character in CLOSE)
        if level < 0:
            return None
    return level


def pieces(text: str, between: str) -> Iterator[tuple[int, int]]:
    """The positions of the pieces between separators, also inside brackets."""
    level, starts, found = 0, [0], []
    quoted = False
    i = 0
    while i < len(text):
        character = text[i]
        quoted ^= character == '"' and text[i - 1 : i] != "\\"
        if not quoted and character in OPEN:
            level += 1
            starts.append(i + 1)
        elif not quoted and character in CLOSE and level:
            found.append((starts.pop(), i))
            level -= 1
        elif not quoted and text.startswith(between, i):
            found.append((starts[-1], i))
            starts[-1] = i + len(between)
        i += 1
    found.append((starts[0], len(text)))
    yield from (f for f in found if f[0] < f[1])


def smaller(text: str) -> Iterator[str]:
    """Texts that lack a piece of this one, largest pieces first."""
    lines = text.splitlines()
    count = len(lines)
    size = count // 2
    while size:
        for start in range(0, count - size + 1, max(size // 2, 1)):
            if depth("\n".join(lines[start : start + size])) == 0:
                yield "\n".join(lines[:start] + lines[start + size :])
        size = size * 2 // 3
    for start, line in enumerate(lines):
        if not (depth(line) or 0) > 0:
            continue
        for end in range(start + 1, count):
            if depth("\n".join(lines[start : end + 1])) == 0:
                yield "\n".join(lines[:start] + lines[end + 1 :])
                yield "\n".join(lines[:start] + lines[start + 1 : end] + lines[end + 1 :])
                break
    for number, line in enumerate(lines):
        for between in (" -> ", ", "):
            for start, end in pieces(line, between):
                after = line[end:].removeprefix(between)
                before = line[:start] if after != line[end:] else line[:start].removesuffix(between)
                yield "\n".join([*lines[:number], before + after, *lines[number + 1 :]])
        for match in re.finditer(r'("[^"]*"|\w+): ', line):
            yield "\n".join([*lines[:number], line[: match.start()] + line[match.end() :], *lines[number + 1 :]])


def shrunk(text: str, fails: Callable[[str], bool], tries: int = 3000) -> str:
    """The smallest text found that `fails`."""
    seen: set[str] = set()
    again = True
    while again:
        again = False
        for other in smaller(text):
            if other in seen or len(seen) > tries:
                continue
            seen.add(other)
            if fails(other):
                text, again = other, True
                break
    return text


def kind(message: str) -> str:
    """The kind of a message, without its numbers and names."""
    return re.sub(r"'[^']*'|[\d.e+-]+|\[.*|of \S+|\(.*", "", " ".join(message.split()[:6]))[:60]


def main() -> None:
    from archdsl.diagnostics import SpecError
    from tests.random_checks import Wrong, holds
    from tests.random_specs import spec

    def wrong(text: str) -> str | None:
        try:
            holds(graph_of(text))
        except SpecError:
            return None
        except Wrong as error:
            return str(error)
        except Exception as error:
            return f"before it is built: {type(error).__name__} {error}"
        return None

    first, last = map(int, sys.argv[1:3])
    known: list[str] = []
    for seed in range(first, last):
        found = spec(seed)
        message = wrong(found[0]) if found else None
        if found and message and kind(message) not in known:
            known.append(kind(message)) if "--once" in sys.argv else None
            about = kind(message)
            small = shrunk(found[0], lambda text, about=about: kind(wrong(text) or "") == about)  # type: ignore[misc]
            print(f"# seed {seed}: {wrong(small)}\n{small}\n", flush=True)


if __name__ == "__main__":
    main()
