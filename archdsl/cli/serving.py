"""The command that serves an editor: lsp."""

from __future__ import annotations

import click

from archdsl.cli.program import FINE, cli


@cli.command()
@click.option("--stdio", is_flag=True, help="Use standard input and output, as always: some editors ask for it.")
def lsp(stdio: bool) -> int:
    """Serve an editor: the language server, over standard input and output.

    An editor starts it; docs/editors.md says how for VS Code, Neovim, Helix and Emacs. It needs the extra `editor`.
    """
    from archdsl.language_server.session import main

    main()
    return FINE
