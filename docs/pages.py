"""Runs a page as a reader would: its files, commands and code, in order, in the current folder.

A page's blocks are:

- ```arch title="net.arch", and the same of other languages: a file, which is written (or replaced);
- ```console: commands behind `$ `, each with its output, as printed; a line `…` stands for any lines, and
  `…` elsewhere for any text. Commands are `archdsl …` and `python FILE`;
- ```python: code, which runs in one session per page;
- a picture images/tutorial.svg "net.svg": the file of that name, which a command before has drawn;
- ```sh and others: not run (such as `pip install`).
"""

from __future__ import annotations

import contextlib
import io
import re
import runpy
import shlex
import sys
from pathlib import Path

from archdsl import cli

BLOCK = re.compile(r'^```(?P<kind>\w+)(?: title="(?P<file>[\w.\-/]+)")?[^\n]*\n(?P<text>.*?)^```\n', re.M | re.S)
PICTURE = re.compile(r'!\[[^\]]*\]\((\S+) "(\S+)"\)')
ANY = "…"


def run(text: str, name: str) -> str:
    """Runs the text of a page in the current folder, and returns it with the outputs that its commands have now."""
    names: dict[str, object] = {"__name__": "page"}

    def renewed(block: re.Match[str]) -> str:
        kind, text = block["kind"], block["text"]
        if block["file"]:
            Path(block["file"]).parent.mkdir(parents=True, exist_ok=True)
            Path(block["file"]).write_text(text, "utf-8")
        elif kind == "python":
            exec(compile(text, name, "exec"), names)
        elif kind == "console" and (now := session(text)) != text.replace("\\\n", " "):
            return block[0].replace(text, now)
        return block[0]

    return BLOCK.sub(renewed, text)


def printed(command: str) -> str:
    """What a command prints, errors included."""
    name, *arguments = shlex.split(command, comments=True)
    out = io.TextIOWrapper(io.BytesIO(), "utf-8", write_through=True)
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
        if name == "archdsl":
            cli.run(arguments)
        else:
            assert name == "python" and len(arguments) == 1, f"neither archdsl nor a Python file: {command}"
            run_file(arguments[0])
    out.seek(0)
    lines = out.read().splitlines()
    return "".join(f"{line.rstrip()}\n" for line in lines)


def run_file(path: str) -> None:
    known = set(sys.modules)
    sys.path.insert(0, "")
    try:
        runpy.run_path(path, run_name="__main__")
    finally:
        sys.path.remove("")
        for name in set(sys.modules) - known:
            if (getattr(sys.modules[name], "__file__", None) or "").startswith(str(Path.cwd())):
                del sys.modules[name]


def is_output(said: str, found: str) -> bool:
    """Whether an output is the one of the page, in which `…` stands for any lines or text."""
    parts = [re.escape(part).replace(ANY, ".*") for part in re.split(rf"^{ANY}\n", said, flags=re.M)]
    return re.fullmatch("(?:.*\n)*".join(parts), found) is not None


def commands(text: str) -> list[tuple[str, str]]:
    """The commands of a block with their outputs; a `\\` at the end of a line continues the command."""
    text = text.replace("\\\n", " ")
    assert text.startswith("$ "), "a console block begins with a command"
    pairs = [part.partition("\n") for part in re.split(r"^\$ ", text, flags=re.M)[1:]]
    return [(command, said) for command, _, said in pairs]


def session(text: str) -> str:
    """A console block with the output that its commands have now."""
    found = []
    for command, said in commands(text):
        now = printed(command)
        found.append(f"$ {command}\n{said if is_output(said, now) else now}")
    return "".join(found)
