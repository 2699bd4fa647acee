"""The parts of random specs, which are written in lines and taken out one by one."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class Part:
    """A statement, or a head and tail with lines between: `head { … } tail`. `fixed` ones are not removed."""

    head: str
    body: list[Part] | None = None
    tail: str = "}"
    fixed: bool = False
    chained: bool = False
    """Whether it is an `else`, which is removed together with what precedes it."""

    def lines(
        self, depth: int, owners: list[list[tuple[list[Part], Part]]], way: list[tuple[list[Part], Part]]
    ) -> list[str]:
        """Its lines; for each line, `owners` gets the enclosing parts with the lists that contain them."""
        found = ["    " * depth + line for line in self.head.split("\n")]
        owners += [way] * len(found)
        if self.body is not None:
            for part in self.body:
                found += part.lines(depth + 1, owners, [*way, (self.body, part)])
            owners.append(way)
            found.append("    " * depth + self.tail)
        return found


@dataclass
class Block:
    """A block to call: its parameters (name, kind, whether it has a default), and what flows in and out.

    `takes` is the number of tensors that flow in; 3 is a list of two or more.
    """

    name: str
    parameters: list[tuple[str, str, bool]]
    flat_in: bool = False
    flat_out: bool = False
    takes: int = 1
    gives: int = 1
