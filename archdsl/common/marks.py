"""The marks by which archdsl recognises the files that it wrote.

A built module's docstring says what compiled it. Every other format gets a comment or the format's equivalent, which
other programs ignore.
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
"""The number of bytes at the start and end of a file in which a mark may be."""

_MADE = rb"made by archdsl \d[\w.+-]{0,40}"

_FIRST = re.compile(
    b"|".join(
        (
            # The docstring of a built module, which may be wrapped at any space.
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
    """Writes `data` to `path` with the mark of its file type, completely or not at all. Raises OSError.

    `comment` begins a line comment in formats that have them: the mark is then such a line.
    """
    write_whole(path, marked(data, Path(path).suffix.lower(), comment))


def is_own(path: str | Path) -> bool:
    """Whether a regular file has a mark: archdsl wrote it. Raises OSError if it cannot be read."""
    if _FIRST.match(read_most(path, HEAD)):
        return True
    with open(path, "rb") as file:
        file.seek(max(0, file.seek(0, 2) - TAIL))
        return bool(_LAST.search(file.read()))


def marked(data: bytes, ending: str, comment: str = "") -> bytes:
    """The bytes of a file of this type with its mark; unchanged if the format has none."""
    made = MADE.encode()
    if comment:
        return comment.encode() + b" " + made + b"\n" + data
    match ending:
        case ".svg" | ".html":
            first = re.match(rb"(?:<[!?][^\n]*>\n)?", data)
            assert first is not None
            return first[0] + b"<!-- " + made + b" -->\n" + data[first.end() :]
        case ".png" if data.startswith(b"\x89PNG"):
            return data[:33] + _chunk(b"tEXt", b"Software\0" + made) + data[33:]  # after the header
        case ".pdf":
            # After the offset table, which counts the bytes before it.
            at = data.rfind(b"startxref")
            return data[:at] + b"% " + made + b"\n" + data[at:] if at > 0 else data
        case ".safetensors":
            return _with_metadata(data)
        case ".pth" | ".pt" | ".pt2" if data[-22:-18] == b"PK\5\6":  # the comment of a zip archive
            return data[:-2] + struct.pack("<H", len(made)) + made
        case ".onnx":
            # Protobuf fields may be in any order: this is one more of ModelProto.metadata_props.
            entry = _field(1, b"software") + _field(2, made)
            return data + _field(14, entry)
        case _:
            return data


def _chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def _with_metadata(data: bytes) -> bytes:
    """A .safetensors file with the mark in its metadata; offsets count from the end of the header."""
    end = 8 + int.from_bytes(data[:8], "little")
    header = json.loads(data[8:end])
    header = {"__metadata__": {"software": MADE, **header.pop("__metadata__", {})}, **header}
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + data[end:]


def _field(number: int, content: bytes) -> bytes:
    """A protobuf field with a message of less than 128 bytes."""
    return bytes([number << 3 | 2, len(content)]) + content
