"""The language server: `archdsl.editing` in the protocol of editors (LSP), over stdin and stdout."""
