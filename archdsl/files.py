"""Output files, written whole or not at all."""

from __future__ import annotations

import contextlib
import os
import stat
import tempfile
from pathlib import Path


def write_whole(path: str | Path, data: bytes) -> None:
    """Puts `data` at `path`. Until the last byte is on the disk, what stood there before stays.

    A link keeps pointing where it does: the file that it names is replaced. What is no regular file (`/dev/stdout`,
    a pipe) is
    written to directly. Raises OSError, which names `path`.
    """
    given, target = Path(path), Path(os.path.realpath(path))
    try:
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
        # A file system without permissions is no reason to lose the output.
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
