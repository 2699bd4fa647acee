"""The PyTorch module of an `augment` declaration, as text for the file of the model that it belongs to.

It is built on kornia, which is imported when an augmentation is made: the model runs where kornia is not installed.
"""

from __future__ import annotations

import keyword
import textwrap
from collections.abc import Iterator

from archdsl.augment import Change, OneOf, Pipeline, Step
from archdsl.augment.base import Affine, Companion, Form
from archdsl.augment.place import affine_form

WIDTH = 88

HELPERS = (
    "Moved",
    "Recoloured",
    "OneOf",
    "drawing",
    "given_back",
    "Parts",
    "Iterator",
    "TypeAlias",
    "contextmanager",
    "K",
)


def write_augmentation(pipeline: Pipeline, model: str) -> Companion:
    """The class of a pipeline, with what it needs, beside that model's. The same pipeline gives the same text."""
    name = class_name(pipeline.name, model)
    written = "\n".join(_written(pipeline.steps, pipeline.channels, 3))
    helpers = [DRAWING]
    helpers += [text for word, text in (("Moved", MOVED), ("Recoloured", RECOLOURED)) if f"{word}(" in written]
    helpers += [ONE_OF] if "OneOf(" in written else []
    blocks = (*(h.strip("\n") for h in helpers), _class(pipeline, name, written))
    return Companion(name, frozenset({name, *HELPERS}), blocks)


IMPORTS = """from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeAlias

import torch
from torch import Tensor, nn
"""


def write_alone(companion: Companion) -> str:
    """A file of the augmentation alone."""
    return "\n\n\n".join([IMPORTS.rstrip("\n"), *companion.blocks]) + "\n"


def class_name(name: str, model: str) -> str:
    """The name in CamelCase, longer where it is the model's or one of Python or of the helpers."""
    found, other = ("".join(w[:1].upper() + w[1:] for w in n.split("_")) for n in (name, model))
    taken = found == other or keyword.iskeyword(found) or found in (*HELPERS, "Tensor", "Factory", "")
    return f"{found}Augmentation" if taken else found


def _class(pipeline: Pipeline, name: str, written: str) -> str:
    kornia = "        import kornia.augmentation as K  # here: the model runs without it\n\n" if "K." in written else ""
    changes = f"nn.Sequential(\n{written}\n        )" if written else "nn.Sequential()"
    size = pipeline.channels
    return CLASS.format(
        name=name,
        doc=_docstring(pipeline),
        kornia=kornia,
        changes=changes,
        size=size,
    ).strip("\n")


def _docstring(pipeline: Pipeline) -> str:
    """The changes as the spec writes them, below its own words, as the inside of a docstring."""
    first = " ".join((pipeline.doc or "Changes that preserve labels.").split())
    lines = [*textwrap.wrap(_escaped(first), WIDTH - 10), ""]
    for line in pipeline.text():
        lines += textwrap.wrap(_escaped(line), WIDTH - 8, initial_indent="    ", subsequent_indent="        ")
    return "\n".join(f"    {line}".rstrip() for line in lines).strip()


def _escaped(text: str) -> str:
    """Text that may stand in a docstring, whatever it holds."""
    plain = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
    return plain.replace("\\", "\\\\").replace('"', '\\"')


# ---------------------------------------------------------------- steps


def _written(steps: tuple[Step, ...], channels: int, depth: int) -> Iterator[str]:
    """The lines of modules that do the steps in order; neighbours of one kind share one."""
    indent = "    " * depth
    run: list[Form] = []
    moving = False

    def close() -> Iterator[str]:
        if not run:
            return
        if moving:
            yield f"{indent}Moved("
            yield f"{indent}    K.AugmentationSequential("
            yield from _calls(run, depth + 2)
            yield f"{indent}    )"
        else:
            yield f"{indent}Recoloured("
            yield from _calls(run, depth + 1)
        yield f"{indent}),"
        run.clear()

    for step in _fused(steps):
        if isinstance(step, OneOf):
            yield from close()
            yield f"{indent}OneOf("
            for chain in step.alternatives:
                inner = list(_written(chain, channels, depth + 1))
                if sum(not line[len(indent) + 4 :].startswith((" ", ")")) for line in inner) == 1:
                    yield from inner
                    continue
                yield f"{indent}    nn.Sequential("
                yield from (f"    {line}" for line in inner)
                yield f"{indent}    ),"
            yield f"{indent}),"
            continue
        moves = isinstance(step, tuple) or step.moves
        forms = (affine_form(step),) if isinstance(step, tuple) else step.forms(channels)
        if moves != moving:
            yield from close()
            moving = moves
        run.extend(forms)
    yield from close()


def _fused(steps: tuple[Step, ...]) -> Iterator[Change | OneOf | tuple[Affine, ...]]:
    """The steps, with neighbours that make up one affine transformation together, which samples the picture once."""
    run: list[Affine] = []
    for step in steps:
        part = step.affine() if isinstance(step, Change) else None
        fits = part is not None and all(p.parameter != part.parameter and p.pad == part.pad for p in run)
        if run and not fits:
            yield tuple(run)
            run = []
        if part is not None:
            run.append(part)
        else:
            yield step
    if run:
        yield tuple(run)


def _calls(forms: list[Form], depth: int) -> Iterator[str]:
    indent = "    " * depth
    for form in forms:
        arguments = [f"{a.name}={_literal(a.value)}" for a in form.arguments]
        line = f"{indent}K.{form.constructor}({', '.join(arguments)}),"
        if len(line) <= WIDTH:
            yield line
            continue
        yield f"{indent}K.{form.constructor}("
        flat = f"{indent}    {', '.join(arguments)}"
        yield from [flat] if len(flat) <= WIDTH else [f"{indent}    {a}," for a in arguments]
        yield f"{indent}),"


def _literal(value: object) -> str:
    return f'"{value}"' if isinstance(value, str) else repr(value)


# ---------------------------------------------------------------- the text

DRAWING = '''
Parts: TypeAlias = dict[str, Tensor]


@contextmanager
def drawing(generator: torch.Generator | None, device: torch.device) -> Iterator[None]:
    """Lets chance hang on the generator alone, if one is given."""
    if generator is None:
        yield
        return
    seed = int(torch.randint(2**62, (), generator=generator, device=generator.device))
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.default_generator.manual_seed(seed)
        if device.type == "cuda":
            torch.cuda.default_generators[device.index or 0].manual_seed(seed)
        yield


def given_back(moved: Tensor, part: Tensor) -> Tensor:
    """In the shape and type in which the part was given."""
    whole = moved if part.is_floating_point() else moved.round()
    return whole.view(part.shape).to(part.dtype)
'''

MOVED = '''
class Moved(nn.Module):
    """Changes of place, which the image and all that goes with it make together."""

    def __init__(self, changes: nn.Module) -> None:
        super().__init__()
        self.changes = changes

    def forward(self, parts: Parts) -> Parts:
        moved = self.changes(*parts.values(), data_keys=list(parts))
        return dict(zip(parts, [moved] if len(parts) == 1 else moved, strict=True))
'''

RECOLOURED = '''
class Recoloured(nn.Module):
    """Changes of what the image shows where, which leave what goes with it alone."""

    def __init__(self, *changes: nn.Module) -> None:
        super().__init__()
        self.changes = nn.Sequential(*changes)

    def forward(self, parts: Parts) -> Parts:
        return {**parts, "input": self.changes(parts["input"])}
'''

ONE_OF = '''
class OneOf(nn.Module):
    """Each sample goes through one of the changes, all equally likely."""

    def __init__(self, *changes: nn.Module) -> None:
        super().__init__()
        self.changes = nn.ModuleList(changes)

    def forward(self, parts: Parts) -> Parts:
        image = parts["input"]
        choice = torch.randint(len(self.changes), image.shape[:1]).to(image.device)
        result = parts
        for i, change in enumerate(self.changes):
            changed = change(parts)
            for key, part in result.items():
                chosen = (choice == i).view(-1, *[1] * (part.ndim - 1))
                result = {**result, key: torch.where(chosen, changed[key], part)}
        return result
'''

CLASS = '''
class {name}(nn.Module):
    """{doc}

    Drawn afresh for every sample while the module trains; in evaluation mode nothing
    changes. Images are [N, {size}, H, W], with values from 0 to 1.
    """

    def __init__(self) -> None:
        super().__init__()
{kornia}        self.changes = {changes}

    def forward(
        self, image: Tensor, *, generator: torch.Generator | None = None
    ) -> Tensor:
        return self.along(image, generator=generator)[0]

    def along(
        self,
        image: Tensor,
        *,
        mask: Tensor | None = None,
        boxes: Tensor | None = None,
        points: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> list[Tensor]:
        """The image, then what goes with it, in the order of the parameters.

        Masks are [N, H, W] or [N, K, H, W], boxes [N, M, 4] as left, top, right and
        bottom edges in pixels, the picture's being 0, 0, W and H; points [N, M, 2] as x
        and y, the middle of the first pixel being 0, 0. What leaves the picture keeps
        its place outside of it.
        """
        if not image.is_floating_point():
            message = f"images are floats from 0 to 1, not {{image.dtype}}"
            raise TypeError(message)
        given = {{"input": image, "mask": mask, "bbox_xyxy": boxes, "keypoints": points}}
        known = {{key: part for key, part in given.items() if part is not None}}
        if not self.training:
            return list(known.values())
        precise = torch.promote_types(image.dtype, torch.float32)
        parts = {{key: part.to(precise) for key, part in known.items()}}
        if mask is not None and mask.ndim == 3:
            parts["mask"] = parts["mask"][:, None]
        if boxes is not None:  # kornia counts from the middle of the first pixel
            parts["bbox_xyxy"] = parts["bbox_xyxy"] - 0.5
        with drawing(generator, image.device):
            parts = self.changes(parts)
        if boxes is not None:
            parts["bbox_xyxy"] = parts["bbox_xyxy"] + 0.5
        return [given_back(parts[key], part) for key, part in known.items()]
'''
