"""The command fmt."""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Iterator, Sequence

import click

from archdsl.cli.options import complete_file
from archdsl.cli.printing import note, write, write_diagnostics
from archdsl.cli.program import FINE, SPEC_WRONG, cli

STREAM = "-"


@cli.command()
@click.argument("files", nargs=-1, required=True, metavar="FILE...", shell_complete=complete_file)
@click.option("--check", "only_check", is_flag=True, help="Write nothing; name the files that are not formatted.")
@click.option("--diff", "show", is_flag=True, help="Write nothing; print what would change.")
def fmt(files: Sequence[str], only_check: bool, show: bool) -> int:
    """Format specs, in place, in one style.

    FILE is a .arch file, a folder (all .arch files in it and its folders), or - for standard input, whose formatted
    text goes to standard output. Comments stay where they are, and a file with a syntax error stays as it is.

    Before a file is written, archdsl proves that its meaning and comments stay and that formatting is final.

    Exit status: 0 all is formatted; 1 a file is wrong, or --check or --diff found one that is not formatted; 2 the
    command line is wrong or a file cannot be written.
    """
    from archdsl.diagnostics import SpecError, visible

    changed = kept = wrong = 0
    for name in _found(files):
        try:
            before, after = _formatted(name)
        except SpecError as error:
            write_diagnostics(error.diagnostics)
            wrong += 1
            continue
        if before == after:
            kept += 1
        else:
            changed += 1
            if show:
                write(_difference(before, after, visible(name)))
            elif only_check:
                write(f"{visible(name)}: not formatted\n")
            elif name != STREAM:
                _put(name, after)
        if name == STREAM and not (show or only_check) and sys.stdout is not None:
            sys.stdout.buffer.write(after.encode())
    if list(files) != [STREAM]:
        _summarise(changed, kept, wrong, only_check or show)
    return SPEC_WRONG if wrong or (changed and (only_check or show)) else FINE


def _found(names: Sequence[str]) -> Iterator[str]:
    """The files that are named, and the specs in named folders without those whose names begin with a dot; each once.

    Raises ClickException for a name that is neither.
    """
    from archdsl.diagnostics import visible

    seen: set[str] = set()
    for name in names:
        found = [name]
        if name != STREAM and os.path.isdir(name):
            found = sorted(_specs(name))
            if not found:
                note(f"{visible(name)} has no .arch files")
        elif name != STREAM and os.path.exists(name) and not os.path.isfile(name):
            raise click.ClickException(f"{name} is neither a file nor a folder; `-` formats standard input")
        for path in found:
            real = os.path.realpath(path) if path != STREAM else STREAM
            if real not in seen:
                seen.add(real)
                yield path


def _specs(folder: str) -> Iterator[str]:
    for place, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        yield from (os.path.join(place, name) for name in names if name.endswith(".arch"))


def _formatted(name: str) -> tuple[str, str]:
    """The text of a file, and its formatted text. Raises SpecError."""
    from archdsl.diagnostics import Diagnostics
    from archdsl.formatting import format_text
    from archdsl.syntax.parser import decode, read_as_it_is

    diagnostics = Diagnostics()
    if name == STREAM:
        shown = "standard input"
        text = decode(shown, sys.stdin.buffer.read() if sys.stdin is not None else b"", diagnostics)
    else:
        shown = name
        text = read_as_it_is(name, diagnostics)
    diagnostics.stop_on_errors()
    assert text is not None
    return text, format_text(text, shown)


def _put(name: str, text: str) -> None:
    """Writes a file, completely or not at all. Raises ClickException if it is write-protected."""
    from archdsl.common.files import write_whole

    if not os.stat(name).st_mode & stat.S_IWUSR:
        raise click.ClickException(f"{name} is write-protected")
    write_whole(name, text.encode())


def _difference(before: str, after: str, name: str) -> str:
    """The changes in the form of `diff -u`."""
    import difflib

    old, new = (text.splitlines(keepends=True) for text in (before, after))
    found = difflib.unified_diff(old, new, name, f"{name} (formatted)")
    return "".join(line if line.endswith("\n") else f"{line}\n\\ No newline at end of file\n" for line in found)


def _summarise(changed: int, kept: int, wrong: int, unwritten: bool) -> None:
    """Says on standard error how many files were formatted."""

    def files(count: int) -> str:
        return f"{count} file{'s' * (count != 1)}"

    parts = [f"{files(changed)} {'would be formatted' if unwritten else 'formatted'}"] if changed else []
    parts += [f"{files(kept)} already formatted"] if kept else []
    parts += [f"{files(wrong)} with errors"] if wrong else []
    if parts and sys.stderr is not None:
        sys.stderr.write(", ".join(parts) + "\n")
