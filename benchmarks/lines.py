"""Compares the length of built files with torchvision's classes for the same models, in lines of code.

Blank lines, comments and docstrings do not count. For torchvision, which must be importable, it counts the classes and
functions that the model needs, without weight tables, registration and imports; for a built file everything but
imports, once complete and once without the parts that torchvision has no equivalent of (the size check, the sizes for
exports).
"""

from __future__ import annotations

import ast
import inspect
import io
import tokenize

import archdsl

EXTRA = ("check_size", "dynamic_shapes")


def lines_of(source: str) -> set[int]:
    """The numbers of the lines with code."""
    tree = ast.parse(source)
    spoken: set[int] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            spoken.update(range(node.lineno, (node.end_lineno or node.lineno) + 1))
        if isinstance(node, ast.Import | ast.ImportFrom):
            spoken.update(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    silent = (tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER)
    found: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type not in silent:
            found.update(range(token.start[0], token.end[0] + 1))
    return found - spoken


def ours(spec: str) -> tuple[int, int]:
    source = archdsl.build(archdsl.check(spec))
    found = lines_of(source)
    extra: set[int] = set()
    for node in ast.parse(source).body:
        if isinstance(node, ast.FunctionDef) and node.name.startswith(EXTRA):
            extra.update(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    return len(found), len(found - extra)


def theirs(*parts: object) -> int:
    return sum(len(lines_of(inspect.getsource(part))) for part in parts)


def main() -> None:
    import torchvision
    from torchvision.models import densenet, mobilenetv2, resnet, vgg
    from torchvision.ops import misc

    blocks = {"resnet18": resnet.BasicBlock, "resnet50": resnet.Bottleneck}
    needs = {
        f"resnet:{n}": (resnet.conv3x3, resnet.conv1x1, block, resnet.ResNet, resnet._resnet)
        for n, block in blocks.items()
    }
    dense = (densenet._DenseLayer, densenet._DenseBlock, densenet._Transition, densenet.DenseNet)
    needs["densenet:densenet121"] = dense
    needs["vgg:vgg16"] = needs["vgg:vgg16_bn"] = (vgg.VGG, vgg.make_layers)
    mobile = (mobilenetv2.InvertedResidual, mobilenetv2.MobileNetV2, misc.ConvNormActivation, misc.Conv2dNormActivation)
    needs["mobilenet:mobilenet_v2"] = (*mobile, mobilenetv2._make_divisible)
    print(f"lines of code, torchvision {torchvision.__version__}, archdsl {archdsl.__version__}")
    print(f"{'':24} {'built':>6} {'without sizes':>14} {'torchvision':>12}")
    for spec, parts in needs.items():
        whole, without = ours(spec)
        print(f"{spec:24} {whole:6} {without:14} {theirs(*parts):12}")


if __name__ == "__main__":
    main()
