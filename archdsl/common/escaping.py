"""Text of a spec as data: one function for each language into which it is written.

(HTML's is `html.escape`, Python's the printer of `backends/python`.)
"""

from __future__ import annotations

import html
import json
import re


def visible(text: str) -> str:
    """Text for a terminal: control characters, direction marks and lone surrogates become escapes."""
    return "".join(c if c.isprintable() else _code(c) for c in text)


def _code(char: str) -> str:
    return " " if char == "\t" else char.encode("unicode_escape").decode("ascii")


def markdown(text: str) -> str:
    """Text for a cell of a table of GitHub's Markdown."""
    return visible(text).replace("|", "\\|")


def dot_label(text: str) -> str:
    """Text for an HTML-like label of Graphviz."""
    # Graphviz replaces `\N`, `\G`, … by names, even within markup.
    return html.escape(visible(text)).replace("\\", "\\\\")


def xdot(text: str) -> str:
    """Text for xdot within a quoted string of dot: its length in bytes, and the text."""
    # Within dot's quotes these two would change the length that is counted.
    text = visible(text).replace('"', "\u201d").replace("\\", "\u2216")
    return f"{len(text.encode())} -{text}"


def json_in_html(data: object) -> str:
    """JSON for a script element of a page."""
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":"))
    # Characters with a meaning in markup or scripts, and halves of characters, which no file can hold.
    return re.sub("[<>&\u2028\u2029\ud800-\udfff]", lambda found: f"\\u{ord(found[0]):04x}", text)


def latex(text: str) -> str:
    """Text for LaTeX, blanks included. A character that its standard fonts may lack becomes its code."""
    spaced = re.sub("^ +| {2,}", lambda found: "\u00a0" * len(found[0]), visible(text))
    escaped = "".join(LATEX.get(c) or (c if " " <= c <= "~" or "\u00c0" <= c < "\u0180" else _hex(c)) for c in spaced)
    return re.sub("-(?=-)", "{-}", escaped)  # two would become a dash


def _hex(char: str) -> str:
    return rf"{{\ttfamily U+{ord(char):04X}}}"


LATEX = {
    **{c: rf"\{c}" for c in "&%$#_{}"},
    "\\": r"\textbackslash{}",
    "^": r"\textasciicircum{}",
    "~": r"\textasciitilde{}",
    **{c: f"${c}$" for c in "<>|"},
    '"': r"''",
    "`": r"\textasciigrave{}",
    "'": r"\textquotesingle{}",
    "×": r"$\times$",
    "·": r"$\cdot$",
    "→": r"$\to$",
    "…": r"\dots{}",
    "⊕": r"$\oplus$",
    "⊖": r"$\ominus$",
    "⊗": r"$\otimes$",
    "‖": r"$\Vert$",
    "⌊": r"$\lfloor$",
    "⌋": r"$\rfloor$",
    "⌈": r"$\lceil$",
    "⌉": r"$\rceil$",
    "≤": r"$\le$",
    "≥": r"$\ge$",
    "–": r"\textendash{}",
    "—": r"\textemdash{}",
    "²": r"\textsuperscript{2}",
    "³": r"\textsuperscript{3}",
    "\u2212": "$-$",
    "\u2216": r"$\setminus$",
    "\u201d": "''",
    "\u00a0": "~",
}
"""Characters that LaTeX reads as commands or ligatures, and those that its standard fonts lack."""
