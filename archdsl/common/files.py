"""Files: reads have a size limit and do not block on pipes without a writer; writes are complete or do nothing."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import select
import stat
import tempfile
import time
from pathlib import Path

PATIENCE = 5.0
"""Seconds to wait until somebody opens a pipe for writing."""


def read_most(path: str | Path, most: int) -> bytes:
    """The first `most` bytes of a file. Raises OSError; TimeoutError for a named pipe without a writer."""
    if not hasattr(os, "O_NONBLOCK"):  # on Windows, which has no pipes in the file system
        with open(path, "rb") as file:
            return file.read(most)
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    with open(descriptor, "rb") as file:
        first = _first(descriptor, most) if stat.S_ISFIFO(os.fstat(descriptor).st_mode) else b""
        os.set_blocking(descriptor, True)
        return first + file.read(most - len(first))


def _first(pipe: int, most: int) -> bytes:
    """The first bytes from a pipe; empty while its writer has not written yet."""
    poll = select.poll()
    poll.register(pipe, select.POLLIN)
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        left = any(event & select.POLLHUP for _, event in poll.poll(20))
        try:
            found = os.read(pipe, most)
        except BlockingIOError:
            return b""
        if found or left:
            return found
    raise TimeoutError(errno.ETIMEDOUT, "it is a pipe without a writer")


def descriptor_of(path: str | Path) -> int | None:
    """The file descriptor that a name such as `/dev/stdout` means, also through links; None for any other name."""
    name = os.path.abspath(path)
    for _ in range(40):  # as many links as the kernel follows
        if found := re.fullmatch(r"/(?:dev|proc/self)/fd/(\d{1,9})", name):
            return int(found[1])
        if not os.path.islink(name):
            return None
        name = os.path.abspath(os.path.join(os.path.dirname(name), os.readlink(name)))
    return None


def write_whole(path: str | Path, data: bytes) -> None:
    """Writes `data` to `path` atomically: until the last byte is on disk, the old file stays.

    A symbolic link stays: its target is replaced. Anything but a regular file (a pipe, a device) is written directly,
    and an open file of the process (`/dev/stdout`) is appended to. Raises OSError, which names `path`.
    """
    given, target = Path(path), Path(os.path.realpath(path))
    try:
        if (descriptor := descriptor_of(given)) is not None:
            with open(os.dup(descriptor), "wb") as stream:
                stream.write(data)
            return
        mode = target.stat().st_mode if target.exists() else None
        if mode is not None and stat.S_ISDIR(mode):
            raise IsADirectoryError(21, "Is a directory")
        if mode is not None and not stat.S_ISREG(mode):
            given.write_bytes(data)
            return
        _replace(target, data, stat.S_IMODE(mode) if mode is not None else 0o666 & ~_umask())
    except OSError as error:
        raise type(error)(error.errno, error.strerror or str(error), str(given)) from error


def _replace(target: Path, data: bytes, mode: int) -> None:
    descriptor, temporary = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name[:80]}.", suffix=".part")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        # A file system without permissions must not prevent the output.
        with contextlib.suppress(PermissionError, NotImplementedError):
            os.chmod(temporary, mode)
        os.replace(temporary, target)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise


def _umask() -> int:
    # Python can read the mask only by setting it.
    mask = os.umask(0)
    os.umask(mask)
    return mask
