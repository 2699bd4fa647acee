"""An editor's questions about a spec while it is written, as functions of its text and its checked models.

Everything is given as spans of the text and plain strings; `archdsl.language_server` speaks the protocol of editors.
"""
