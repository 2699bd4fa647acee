"""Output files of commands: never an input of the command; a file that archdsl did not write only with --force.

Each command is checked here before it runs. The classes of its parameters say which are outputs and specs (the classes
below) and which are other files that it reads (`click.Path`).
"""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import click

from archdsl.common.choices import NETWORK_FILES

FORCE = "--force"


class OutputOption(click.Option):
    """An option that names a file to write."""


class SpecArgument(click.Argument):
    """An argument that names specs, which are read with their imports."""


class SpecOption(click.Option):
    """An option that names a spec, which is read with its imports."""


class Command(click.Command):
    """A command that checks its outputs before it runs."""

    def invoke(self, ctx: click.Context) -> object:
        """Raises UsageError for an output that must not be written."""
        guard(ctx, forced=bool(ctx.params.pop("force", False)))
        return super().invoke(ctx)


def parse_output(given: str | None, what: str, endings: Sequence[str], *, stream: bool) -> Path | None:
    """The file to write; None for standard output. Raises BadParameter if it cannot be written."""
    from archdsl.diagnostics import visible

    if given is None or (given == "-" and stream):
        return None
    if "\0" in given:
        raise click.BadParameter("a file name cannot contain a NUL")
    path = Path(given)
    if path.suffix.lower() not in endings and not (stream and is_stream(path)):
        raise click.BadParameter(f"{what} a file that ends with {', '.join(endings)}")
    if path.is_dir():
        raise click.BadParameter(f"{visible(given)} is a folder")
    for folder in (path.parent, Path(os.path.realpath(path)).parent):
        if not folder.is_dir():
            raise click.BadParameter(f"there is no folder {visible(str(folder))}")
    return path


def is_stream(path: Path) -> bool:
    """Whether writing there replaces no file: it is a pipe, a device or an open file descriptor."""
    from archdsl.common.files import descriptor_of

    if descriptor_of(path) is not None:
        return True
    with suppress(OSError):
        mode = path.stat().st_mode
        return not stat.S_ISREG(mode) and not stat.S_ISDIR(mode)
    return False


# ---------------------------------------------------------------- the guard


def guard(ctx: click.Context, *, forced: bool) -> None:
    """Refuses an output that is an input, the target of standard output, or a file that archdsl did not write.

    Raises UsageError.
    """
    from archdsl.diagnostics import visible

    shown = _standard_output()
    if shown is not None and shown.st_size and (read := _same(shown, _inputs(ctx))):
        raise click.UsageError(f"standard output goes to {visible(str(read))}, which this command reads", ctx)
    outputs = [(p, path) for p in ctx.command.params if isinstance(p, OutputOption) for path in _values(ctx, p)]
    for parameter, path in outputs:
        if (found := _regular(path)) is None:
            continue
        why = ""
        if read := _same(found, _inputs(ctx)):
            same = "" if read == path else f"the same file as {visible(str(read))}, which is "
            why = f"is {same}read by this command; name another file"
        elif is_stream(path):
            continue
        elif shown is not None and os.path.samestat(found, shown):
            why = "is also the target of standard output; name another file"
        elif not forced and (protected := _protected(path, found)):
            why = f"{protected}; name another file, or overwrite it with {FORCE}"
        if why:
            raise click.BadParameter(f"{visible(str(path))} {why}", ctx, parameter)


def _protected(path: Path, found: os.stat_result) -> str | None:
    """Why a file needs --force; None if it is empty or archdsl wrote it."""
    from archdsl.common.marks import is_own

    if not found.st_mode & stat.S_IWUSR:
        return "is write-protected"
    with suppress(OSError):
        if not found.st_size or is_own(path):
            return None
    return "was not written by archdsl"


def _regular(path: Path) -> os.stat_result | None:
    """The stat result of a regular file; None if there is none."""
    with suppress(OSError, ValueError):
        found = path.stat()
        return found if stat.S_ISREG(found.st_mode) else None
    return None


def _standard_output() -> os.stat_result | None:
    """The regular file that standard output is redirected to, if any."""
    with suppress(OSError, ValueError, AttributeError):
        found = os.fstat(sys.stdout.fileno())
        return found if stat.S_ISREG(found.st_mode) else None
    return None


def _same(output: os.stat_result, inputs: Iterator[Path]) -> Path | None:
    """The input that is the same file as an output, under whatever name."""
    for path in inputs:
        if (found := _regular(path)) is not None and os.path.samestat(found, output):
            return path
    return None


def _values(ctx: click.Context, parameter: click.Parameter) -> list[Any]:
    """The values of a parameter, which may take several."""
    value = ctx.params.get(parameter.name or "")
    return [one for one in (value if isinstance(value, tuple) else (value,)) if one is not None]


def _inputs(ctx: click.Context) -> Iterator[Path]:
    """The files that a command reads: those named, the images in a folder, specs and their imports."""
    for parameter in ctx.command.params:
        for value in _values(ctx, parameter):
            if isinstance(parameter, SpecArgument | SpecOption):
                yield from _files_of(value)
            elif isinstance(parameter.type, click.Path):
                yield from _pictures(value) if value.is_dir() else [value]


def _pictures(folder: Path) -> Iterator[Path]:
    from archdsl.runtime.running import ENDINGS

    with suppress(OSError):
        yield from (path for path in folder.iterdir() if path.suffix.lower() in ENDINGS)


def _files_of(spec: str) -> Iterator[Path]:
    """The file of a SPEC, which may end with the path of a layer, and its imports; none if there is no file."""
    from archdsl.checker.spec import read, split_spec
    from archdsl.diagnostics import Diagnostics, SpecError

    if spec.lower().endswith(tuple(NETWORK_FILES)):
        yield Path(spec)
        return
    for text in (spec, spec.rpartition(":")[0]):
        with suppress(SpecError):
            path, _ = split_spec(text, Diagnostics())
            yield path
            if not is_stream(path):  # a stream can be read only once
                spec_file, _ = read(text, Diagnostics())
                yield from (Path(name) for name, _ in spec_file.files()) if spec_file is not None else ()
            return
