"""The marks by which archdsl knows files that it wrote from those of other people.

A built module says in its docstring what compiled it. Every other form gets a line of its own, or what the form has in
place of one, which programs that read it pass over.
"""

from __future__ import annotations

import json
import re
import struct
import zlib
from pathlib import Path

from archdsl import __version__
from archdsl.common.files import read_most, write_whole

MADE = f"made by archdsl {__version__}"

HEAD, TAIL = 16_384, 256
"""Bytes at the start and at the end of a file in which a mark may stand."""

_MADE = rb"made by archdsl \d[\w.+-]{0,40}"

_FIRST = re.compile(
    b"|".join(
        (
            # The docstring of a built module, whose lines may be broken at any blank.
            rb'r?"""(?:(?!""").)+?,\s+compiled\s+by\s+archdsl\s+\d\S*\s+from\s(?:(?!""").)*?\(sha256\s+[0-9a-f]{12}\)\.',
            rb"(?://|--|;|%%{1,2}) %s\n" % _MADE,  # a comment, but not one of Python or a shell
            rb"(?:<[!?][^\n]*>\n)?<!-- %s -->\n" % _MADE,
            rb"\x89PNG\r\n\x1a\n.{25}.{4}tEXtSoftware\0%s" % _MADE,
            rb'.{8}\{"__metadata__": ?\{"software": ?"%s"' % _MADE,
        )
    ),
    re.DOTALL,
)
_LAST = re.compile(
    rb"(?:\n%% %s\nstartxref\s+\d+\s+%%%%EOF\s*|PK\x05\x06.{18}%s|r.\n\x08software\x12.%s)\Z" % (_MADE, _MADE, _MADE),
    re.DOTALL,
)


def save(path: str | Path, data: bytes, comment: str = "") -> None:
    """Puts `data` at `path` with the mark of its format, whole or not at all. Raises OSError.

    `comment` is the sign that begins a line of comment, where such a line is the mark; else the ending says the mark.
    """
    write_whole(path, marked(data, Path(path).suffix.lower(), comment))


def is_own(path: str | Path) -> bool:
    """Whether a regular file has a mark: archdsl wrote it. Raises OSError where it cannot be read."""
    if _FIRST.match(read_most(path, HEAD)):
        return True
    with open(path, "rb") as file:
        file.seek(max(0, file.seek(0, 2) - TAIL))
        return bool(_LAST.search(file.read()))


def marked(data: bytes, ending: str, comment: str = "") -> bytes:
    """The bytes of a file that ends so, with its mark; as they are where that form has none."""
    made = MADE.encode()
    if comment:
        return comment.encode() + b" " + made + b"\n" + data
    match ending:
        case ".svg" | ".html":
            first = re.match(rb"(?:<[!?][^\n]*>\n)?", data)
            assert first is not None
            return first[0] + b"<!-- " + made + b" -->\n" + data[first.end() :]
        case ".png" if data.startswith(b"\x89PNG"):
            return data[:33] + _chunk(b"tEXt", b"Software\0" + made) + data[33:]  # behind the header
        case ".pdf":
            # Behind the table of offsets, which counts the bytes before it.
            at = data.rfind(b"startxref")
            return data[:at] + b"% " + made + b"\n" + data[at:] if at > 0 else data
        case ".safetensors":
            return _with_metadata(data)
        case ".pth" | ".pt" | ".pt2" if data[-22:-18] == b"PK\5\6":  # the comment of a zip archive
            return data[:-2] + struct.pack("<H", len(made)) + made
        case ".onnx":
            # A field of a message may stand anywhere in it: this is one more of ModelProto.metadata_props.
            entry = _field(1, b"software") + _field(2, made)
            return data + _field(14, entry)
    return data


def _chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def _with_metadata(data: bytes) -> bytes:
    """A .safetensors file with the mark among its metadata; offsets count from behind the header."""
    end = 8 + int.from_bytes(data[:8], "little")
    header = json.loads(data[8:end])
    header = {"__metadata__": {"software": MADE, **header.pop("__metadata__", {})}, **header}
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + data[end:]


def _field(number: int, content: bytes) -> bytes:
    """A field of a protobuf message that holds less than 128 bytes."""
    return bytes([number << 3 | 2, len(content)]) + content
