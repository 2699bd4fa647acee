"""Writes the text of a spec."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from archdsl.ops import OPERATIONS
from archdsl.ops.fields import shown
from archdsl.runtime.importing.chains import Chain, Node, Text, key, walk
from archdsl.runtime.importing.joining import takes_nothing
from archdsl.runtime.importing.layers import default_of, same
from archdsl.runtime.importing.outside import Extern
from archdsl.runtime.importing.solving import Block

WIDTH = 100
"""The longest line."""


@dataclass(slots=True, eq=False)
class Model:
    """The model of a spec. `inputs` are the declarations of its inputs, `outputs` pairs of a name and a label."""

    name: str
    chain: Chain
    inputs: list[str]
    outputs: list[tuple[str, str, bool]] = field(default_factory=list)
    doc: str = ""


def write(model: Model, blocks: Sequence[Block], head: str) -> str:
    """The text of a spec with one model."""
    return Writer(model, blocks).text(head)


class Writer:
    def __init__(self, model: Model, blocks: Sequence[Block]) -> None:
        self.model, self.blocks = model, blocks
        nodes = [node for chain in (model.chain, *(b.chain for b in blocks)) for node in walk(chain)]
        self.labels = {name for node in nodes for name in (node.label, *node.names) if name}
        self.defaults = defaults(nodes)
        # Names that no label can have: of inputs, and of free sizes.
        self.quoted = {name for declared in model.inputs for name in re.findall(r"[A-Za-z_]\w*", declared)}

    def text(self, head: str) -> str:
        parts = ["".join(f"# {line}\n" for line in head.splitlines())]
        if self.defaults:
            parts.append("".join(f"default {self.call(name, given)}\n" for name, given in self.defaults.items()))
        parts += [self.block(block) for block in self.blocks]
        parts.append(self.of_model())
        return "\n".join(parts)

    # ------------------------------------------------------------ declarations

    def block(self, block: Block) -> str:
        if isinstance(block, Extern):
            return block.text
        named = [p.name + (f" = {shown(p.default)}" if p.has_default else "") for p in block.parameters]
        head = f"block {block.name}({', '.join(named)})" if named else f"block {block.name}"
        lines = []
        if block.inputs or block.channels:
            names = block.inputs or ["x"]
            sizes = [
                f"[{', '.join([(block.channels or '_') if i == 0 else '_', *['_'] * rank])}]"
                for i, rank in enumerate(block.ranks[: len(names)])
            ]
            lines.append("input " + ", ".join(f"{name}{size}" for name, size in zip(names, sizes, strict=True)))
        body = self.lines(block.chain)
        if block.outputs:
            body.append("output " + ", ".join(label for _, label in block.outputs))
        doc = [quote(block.doc)] if block.doc else []
        return "\n".join([f"{head} {{", *indented([*doc, *lines, *block.lets, *body]), "}", ""])

    def of_model(self) -> str:
        model = self.model
        body = ["input " + ", ".join(model.inputs), *self.lines(model.chain)]
        if model.outputs:
            body.append("output " + ", ".join(map(output_text, model.outputs)))
        doc = [quote(model.doc)] if model.doc else []
        return "\n".join([f"model {model.name} {{", *indented([*doc, *body]), "}", ""])

    # ------------------------------------------------------------ chains

    def lines(self, chain: Chain) -> list[str]:
        """The statements of a body, one or more items in each."""
        found: list[str] = []
        line: list[str] = []
        kinds: list[str] = []
        named: set[str] = set()

        def end() -> None:
            if line:
                found.extend(" -> ".join(line).split("\n"))
                line.clear()
                kinds.clear()
                named.clear()

        for node in chain:
            if node.kind in ("repeat", "for", "if", "share"):
                end()
                found.extend(self.statement(node))
                continue
            text, kind = self.item(node), kind_of(node)
            is_long = "\n" in text or len(" -> ".join([*line, text]).rpartition("\n")[2]) > WIDTH - 8
            if named & references(node) or takes_nothing([node]):
                end()
            if kinds[-1:] not in (["parallel"], ["ref"]) and (is_long or begins_line(kind, kinds)):
                end()
            line.append(text)
            kinds.append(kind)
            named.update(node.names)
            if "\n" in text and kind != "parallel":
                end()
        end()
        return found

    def statement(self, node: Node) -> list[str]:
        if node.kind == "share":
            text = self.item(node.bodies[0][0])
            named = "" if text.startswith(f"{node.name}:") else f"{node.name}: "
            label = node.bodies[0][0].label
            if named and label and text.startswith(f"{label}:"):
                text = f'"{label}"{text[len(label) :]}'
            return f"share {named}{text}".split("\n")
        body = self.lines(node.bodies[0])
        if node.kind == "repeat":
            head = f"repeat {value_text(node.arguments['count'])}"
        elif "table" in node.arguments:
            numbers = value_text(node.arguments["table"])
            if "first" in node.arguments:
                first = node.arguments["first"]
                numbers = f"enumerate({numbers}, {first})" if first else f"enumerate({numbers})"
            head = f"for {'i, ' if 'first' in node.arguments else ''}{node.name} in {numbers}"
        elif "each" in node.arguments:
            first = node.arguments["first"]
            head = f"for i, {node.name} in enumerate(it{f', {first}' if first else ''})"
        elif node.kind == "for":
            first, count = node.arguments["first"], node.arguments["count"]
            head = f"for i in {span_text(first, count)}"
        else:
            head = f"if {value_text(node.arguments['condition'])}"
        return braced(head, body)

    def item(self, node: Node) -> str:
        text = self.unlabelled(node)
        label = node.label if not node.auto or node.kind == "body" else None
        if node.kind == "use" and not node.weighted:
            label = None
        if len(node.names) == 1:
            if label is None and not node.weighted and node.kind in ("op", "use"):
                label = node.names[0]
            elif label != node.names[0]:
                text += f" -> {node.names[0]}: it"
        elif node.names:
            pattern = f"({', '.join(node.names)})"
            return (
                f"{pattern}: {text}" if label is None else f"{label_text(label, self.quoted)}: {text} -> {pattern}: it"
            )
        return text if label is None else f"{label_text(label, self.quoted)}: {text}"

    def unlabelled(self, node: Node) -> str:
        if node.kind == "op":
            return self.call(str(value_text(node.name)), node.arguments, of_file=True)
        if node.kind == "use":
            return self.use(node)
        if node.kind in ("ref", "call"):
            return str(node.name)
        if node.kind == "parallel":
            return self.parallel(node)
        if node.kind == "body":
            return "\n".join(braced("", self.lines(node.bodies[0])))
        if node.kind == "windows":
            return "\n".join(braced(f"{node.name}({self.window(node)})", self.lines(node.bodies[0])))
        if node.kind == "dense":
            return "\n".join(braced("dense", self.lines(node.bodies[0])))
        head = "residual"
        if "if" in node.arguments:
            head += f" if {value_text(node.arguments['if'])}"
        if node.bodies[0]:
            head += f" via {self.via(node.bodies[0])}"
        return "\n".join(braced(head, self.lines(node.bodies[1])))

    @staticmethod
    def window(node: Node) -> str:
        """The arguments of windows."""
        parts = [value_text(node.arguments["size"])]
        shift, pad = node.arguments.get("shift", 0), node.arguments.get("pad", False)
        if not same(shift, 0):
            parts.append(f"shift = {value_text(shift)}")
        if pad is not False:
            parts.append("pad" if pad is True else f"pad = {value_text(pad)}")
        return ", ".join(parts)

    def via(self, chain: Chain) -> str:
        """The item through which a skip goes; one that is not always there stays as an empty body."""
        if len(chain) == 1 and chain[0].kind == "if":
            (inner,) = chain[0].bodies
            if len(inner) == 1 and inner[0].kind == "body":
                body = inner[0]
                kept = [Node("if", arguments=chain[0].arguments, bodies=[body.bodies[0]])]
                return self.item(Node("body", bodies=[kept], label=body.label, weighted=True))
        if len(chain) == 1 and chain[0].kind in ("op", "use", "body"):
            return self.item(chain[0])
        return "\n".join(braced("", self.lines(chain)))

    def parallel(self, node: Node) -> str:
        branches = [self.branch(body) for body in node.bodies]
        one = f"({', '.join(branches)})"
        if "\n" not in one and len(one) <= WIDTH - 8:
            return one
        return "\n".join(["(", *indented(f"{branch}," for branch in branches), ")"])

    def branch(self, chain: Chain) -> str:
        if not chain:
            return "it"
        if "each" in chain[0].arguments:
            return "\n".join(self.statement(chain[0]))
        named = {name for node in chain for name in node.names}
        simple = all(node.kind not in ("repeat", "for", "if") and not named & references(node) for node in chain)
        texts = [self.item(node) for node in chain] if simple else []
        one = " -> ".join(texts)
        if len(texts) == 1 or (simple and len(one) <= WIDTH - 12 and "\n" not in one):
            return one
        return "\n".join(braced("", self.lines(chain)))

    # ------------------------------------------------------------ calls

    def call(self, name: str, given: dict[str, object], *, of_file: bool = False) -> str:
        """A call of an operation; of one with a default in the file, what differs from that."""
        cls = OPERATIONS.get(name)
        if cls is None:  # a parameter that holds an operation
            return name
        arguments = dict(given)
        if of_file:
            for field_name, value in self.defaults.get(name, {}).items():
                if field_name not in arguments:
                    arguments[field_name] = default_of(cls, field_name)
                elif same(arguments[field_name], value):
                    del arguments[field_name]
        parts: list[str] = []
        by_position = True
        for field_name, parameter in cls.fields.items():
            if field_name not in arguments:
                by_position = False
                continue
            text = value_text(arguments[field_name], listed=field_name in ("sizes", "axes"))
            stands = (
                bool(parts) and parameter.default is None and field_name not in cls.stated
            )  # as the stop of a slice
            says = cls.fields.keys() == {"mode"}  # as in `align(pad)`
            plain = parameter.is_required or cls.stated.get(field_name, "") is None or text == field_name
            plain = plain or stands or says
            by_position = by_position and plain
            parts.append(text if by_position else f"{field_name} = {text}")
        if not parts:
            return f"{name}()" if name in self.labels else name
        return f"{name}({', '.join(parts)})"

    def use(self, node: Node) -> str:
        block = node.name
        assert isinstance(block, Block)
        parts = []
        for parameter in block.parameters:
            value = node.arguments[parameter.name]
            if not parameter.has_default:
                parts.append(value_text(value))
            elif not same(value, parameter.default):
                parts.append(f"{parameter.name} = {value_text(value)}")
        if not parts:
            return f"{block.name}()" if block.name in self.labels else block.name
        return f"{block.name}({', '.join(parts)})"


def defaults(nodes: Iterable[Node]) -> dict[str, dict[str, object]]:
    """The arguments that most calls of an operation share, if the language's default is another."""
    calls: dict[str, list[Node]] = {}
    for node in nodes:
        if node.kind == "op" and isinstance(node.name, str):
            calls.setdefault(node.name, []).append(node)
    found: dict[str, dict[str, object]] = {}
    for name, same_calls in calls.items():
        for field_name, parameter in OPERATIONS[name].fields.items():
            if parameter.is_required or field_name in OPERATIONS[name].stated:
                continue
            values = [node.arguments.get(field_name, parameter.default) for node in same_calls]
            literal = Counter(key(v) for v in values if not isinstance(v, Text))
            if not literal:
                continue
            most, count = literal.most_common(1)[0]
            value = next(v for v in values if not isinstance(v, Text) and key(v) == most)
            if count >= 3 and 2 * count > len(values) and not same(value, parameter.default) and value is not None:
                found.setdefault(name, {})[field_name] = value
    return found


def references(node: Node) -> set[str]:
    """The labels that a node refers to, which are known from the next statement on."""
    found = set()
    for inner in node.walk():
        if inner.kind == "ref":
            found.add(str(inner.name))
        for value in inner.arguments.values():
            if isinstance(value, Text):
                found |= set(re.findall(r"[A-Za-z_]\w*", value.text))
    return found


def kind_of(node: Node) -> str:
    """The kind of a node, as the breaking of lines sees it."""
    if node.kind != "op" or not isinstance(node.name, str):
        return node.kind if node.kind != "op" else "activation"
    cls = OPERATIONS[node.name]
    if cls.is_weighted:
        return "weighted"
    if "kernel" in cls.fields:
        return "window"
    return cls.family


def begins_line(kind: str, before: list[str]) -> bool:
    """Whether an item begins a line after these."""
    if not before:
        return False
    if before == ["parallel", "merge"] and kind in ("use", "weighted"):
        return False
    if kind in ("ref", "call", "use", "body", "residual", "dense", "windows", "pooling", "window"):
        return True
    if before[-1] == "window":
        return kind not in ("activation", "regularisation", "shape")
    if before[-1] in ("use", "body", "call"):
        return kind not in ("activation", "regularisation", "shape")
    if kind == "weighted":
        return "weighted" in before
    if kind == "normalisation":
        return "weighted" in before and before[0] == "normalisation"
    return kind == "parallel" and before != ["ref"]


def braced(head: str, body: list[str]) -> list[str]:
    """A body in braces: in one line if it is short."""
    start = f"{head} {{" if head else "{"
    if not body:
        return [f"{start} }}"]
    if len(body) == 1 and len(start) + len(body[0]) + 3 <= WIDTH - 8 and "\n" not in head:
        return [f"{start} {body[0]} }}"]
    first, *more = start.split("\n")
    return [first, *more, *indented(body), "}"]


def indented(lines: Iterable[str]) -> list[str]:
    return [f"    {part}" if part else part for line in lines for part in line.split("\n")]


def quote(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def label_text(label: str, quoted: set[str]) -> str:
    return label if label.isidentifier() and label not in quoted and label != "it" else f'"{label}"'


def value_text(value: object, *, listed: bool = False) -> str:
    if isinstance(value, Text):
        return value.text
    if listed and isinstance(value, tuple):
        return f"[{', '.join(map(str, value))}]"
    return shown(value)


def span_text(first: object, count: object) -> str:
    """The numbers from `first` on, `count` of them."""
    if first == 1:
        return f"1..={value_text(count)}"
    stop = first + count if isinstance(first, int) and isinstance(count, int) else f"{first} + {value_text(count)}"
    return f"{first}..{value_text(count) if first == 0 else stop}"


def output_text(output: tuple[str, str, bool]) -> str:
    name, label, training = output
    return (label if name == label else f"{name} = {label}") + (" if training" if training else "")
