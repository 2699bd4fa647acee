"""The command that serves an editor: lsp."""

from __future__ import annotations

from archdsl.cli.program import FINE, cli


@cli.command()
def lsp() -> int:
    """Serve an editor: the language server, over standard input and output.

    An editor starts it; docs/editors.md says how for VS Code, Neovim, Helix and Emacs. It needs the extra `editor`.
    """
    from archdsl.language_server.session import main

    main()
    return FINE
