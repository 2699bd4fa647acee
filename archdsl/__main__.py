"""The program `archdsl`, also run by `python -m archdsl`."""

from __future__ import annotations

import sys
from typing import NoReturn

from archdsl.common import interrupts


def main() -> NoReturn:
    """Runs the command line; handles Ctrl-C even during the slow imports."""
    interrupts.remember()
    try:
        from archdsl import cli  # click and its commands

        cli.main()
    except Exception:
        if not interrupts.seen():
            raise
    except KeyboardInterrupt:
        pass
    sys.stderr.write("archdsl: interrupted\n")
    sys.exit(interrupts.STATUS)


if __name__ == "__main__":
    main()
