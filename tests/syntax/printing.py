"""Prints trees as plain .arch text, with parentheses around every operator and one statement per line."""

from __future__ import annotations

from typing import assert_never

from archdsl.syntax import tree


def show_value(value: tree.Value) -> str:
    match value:
        case tree.Literal(value=bool() | None as plain):
            return str(plain).lower()
        case tree.Literal(value=str() as text):
            return quoted(text)
        case tree.Literal(value=number):
            return repr(number)
        case tree.SizeLiteral(values=values):
            return "x".join(map(str, values))
        case tree.Name(name=name):
            return name
        case tree.ListValue(items=items):
            return f"[{', '.join(map(show_value, items))}]"
        case tree.Unary(operator=operator, operand=operand):
            return f"({operator} {show_value(operand)})"
        case tree.Binary(operator=operator, left=left, right=right):
            return f"({show_value(left)} {operator} {show_value(right)})"
        case tree.Conditional(condition=condition, then=then, otherwise=otherwise):
            return f"({show_value(then)} if {show_value(condition)} else {show_value(otherwise)})"
        case tree.Index(base=base, index=index):
            return f"{show_value(base)}[{show_value(index)}]"
        case tree.Attribute(base=base, name=name):
            return f"{show_value(base)}.{name}"
        case tree.Apply(function=function, arguments=arguments):
            return function.name + show_arguments(arguments)
        case tree.Range(start=start, stop=stop, inclusive=inclusive):
            return f"({show_value(start)} {'..=' if inclusive else '..'} {show_value(stop)})"
        case _:
            assert_never(value)


def quoted(text: str) -> str:
    escapes = {"\\": "\\\\", '"': '\\"', "\n": "\\n", "\t": "\\t"}
    return '"' + "".join(escapes.get(c, c if c.isprintable() else f"\\u{ord(c):04x}") for c in text) + '"'


def show_arguments(arguments: tuple[tree.Argument, ...]) -> str:
    return f"({', '.join((f'{a.name} = ' if a.name else '') + show_value(a.value) for a in arguments)})"


def show_label(label: tree.Label | tree.Pattern | None) -> str:
    match label:
        case None:
            return ""
        case tree.Pattern(names=names):
            return f"({', '.join(n.name for n in names)}): "
        case tree.Label(parts=parts, quoted=False):
            return f"{parts[0]}: "
        case tree.Label(parts=parts):
            texts = [quoted(p)[1:-1].replace("{", "{{").replace("}", "}}") for p in parts if isinstance(p, str)]
            values = [f"{{{show_value(p)}}}" for p in parts if not isinstance(p, str)]
            return '"' + "".join((texts if isinstance(p, str) else values).pop(0) for p in parts) + '": '
        case _:
            assert_never(label)


def show_item(item: tree.Item) -> str:
    label = show_label(item.label)
    match item:
        case tree.Call(name=name, arguments=None):
            return label + name.name
        case tree.Call(name=name, arguments=arguments):
            return label + name.name + show_arguments(arguments or ())
        case tree.Element(value=value):
            return label + show_value(value)
        case tree.Body(statements=statements, scoped=scoped):
            return label + "scope " * scoped + show_body(statements)
        case tree.Parallel(branches=branches):
            return f"{label}({', '.join(map(show_statement, branches))})"
        case tree.Residual(condition=condition, via=via, body=body):
            choice = f" if {show_value(condition)}" if condition else ""
            route = f" via {show_item(via)}" if via else ""
            return f"{label}residual{choice}{route} {show_item(body)}"
        case tree.Dense(body=body):
            return f"{label}dense {show_item(body)}"
        case tree.Windows(cut=cut, body=body):
            return f"{label}{show_item(cut)} {show_item(body)}"
        case _:
            assert_never(item)


def show_body(statements: tuple[tree.Statement, ...], doc: str | None = None) -> str:
    lines = ([quoted(doc)] if doc is not None else []) + [show_statement(s) for s in statements]
    return "{\n" + "\n".join(lines) + "\n}" if len(lines) > 1 else f"{{ {lines[0]} }}" if lines else "{ }"


def show_statement(statement: tree.Statement | tree.Declaration) -> str:
    match statement:
        case tree.Chain(items=items):
            return " -> ".join(map(show_item, items))
        case tree.Let(name=name, value=value):
            return f"let {name.name} = {show_value(value)}"
        case tree.For(names=names, values=values, body=body):
            return f"for {', '.join(n.name for n in names)} in {show_value(values)} {show_item(body)}"
        case tree.Repeat(count=count, body=body):
            return f"repeat {show_value(count)} {show_item(body)}"
        case tree.If(branches=branches, otherwise=otherwise):
            parts = [f"if {show_value(condition)} {show_item(body)}" for condition, body in branches]
            return " else ".join(parts + ([show_item(otherwise)] if otherwise else []))
        case tree.Input(tensors=tensors):
            return "input " + ", ".join(
                f"{t.name.name}[{', '.join(map(show_dimension, t.dimensions))}]" for t in tensors
            )
        case tree.Output(tensors=tensors):
            return "output " + ", ".join(map(show_output, tensors))
        case tree.Expect(dimensions=dimensions):
            return f"expect [{', '.join(map(show_value, dimensions))}]"
        case tree.Require(condition=condition, message=message):
            return f"require {show_value(condition)}" + (f", {show_value(message)}" if message else "")
        case tree.Share(name=name, item=item):
            return f"share {name.name}: {show_item(item)}"
        case tree.Default(operation=operation, arguments=arguments):
            return f"default {operation.name}{show_arguments(arguments)}"
        case tree.Import(module=module, names=names):
            listed = (n.name.name + (f" as {n.alias.name}" if n.alias.name != n.name.name else "") for n in names)
            return f"from {module.name} import {', '.join(listed)}"
        case tree.Function(name=name, parameters=parameters, value=value):
            return f"fn {name.name}{show_parameters(parameters)} = {show_value(value)}"
        case tree.Block(name=name, parameters=parameters, doc=doc, body=body):
            return f"block {name.name}{show_parameters(parameters)} {show_body(body.statements, doc)}"
        case tree.Model(name=name, parameters=parameters, doc=doc, body=body):
            return f"model {name.name}{show_parameters(parameters)} {show_body(body.statements, doc)}"
        case tree.Extern():
            return show_extern(statement)
        case tree.Member(name=name, family=family, arguments=arguments):
            return f"model {name.name} = {family.name}{show_arguments(arguments)}"
        case tree.Missing():
            return "?"
        case _:
            assert_never(statement)


def show_extern(extern: tree.Extern) -> str:
    lines = ([quoted(extern.doc)] if extern.doc is not None else []) + [show_line(line) for line in extern.lines]
    head = f"extern {'fn ' if extern.is_function else ''}{extern.name.name}{show_parameters(extern.parameters)}"
    return f"{head} = {quoted(extern.target)} {{\n" + "\n".join(lines) + "\n}"


def show_line(line: tree.ExternLine) -> str:
    match line:
        case tree.Gives(tensors=tensors):
            sizes = [f"[{', '.join(map(show_value, values))}]" for values in tensors]
            names = [f"r{i}{size}" for i, size in enumerate(sizes)]  # the tree keeps no names
            return "output " + (sizes[0] if len(sizes) == 1 else ", ".join(names))
        case tree.Held(kind=kind, tensors=tensors, condition=condition):
            listed = (f"{quoted(key)}[{', '.join(map(show_value, sizes))}]" for key, _, sizes in tensors)
            return f"{kind} {', '.join(listed)}" + (f" if {show_value(condition)}" if condition is not None else "")
        case tree.Passed(kind="macs", arguments=(argument,)):
            return f"macs {show_value(argument.value)}"
        case tree.Passed(kind=kind, arguments=arguments):
            return f"{kind} {show_arguments(arguments)}"
        case _:
            return show_statement(line)


def show_dimension(dimension: tree.Dimension) -> str:
    example = f" = {show_value(dimension.example)}" if dimension.example else ""
    return show_value(dimension.value) + example


def show_output(output: tree.OutputTensor) -> str:
    name = f"{output.name.name} = " if output.name.name != output.label.name else ""
    return name + output.label.name + (" if training" if output.training else "")


def show_parameters(parameters: tuple[tree.Parameter, ...]) -> str:
    return f"({', '.join(p.name.name + (f' = {show_value(p.default)}' if p.default else '') for p in parameters)})"


def show_file(file: tree.File) -> str:
    return "".join(show_statement(d) + "\n" for d in file.declarations)
