"""Measurements of a checked graph: costs, memory, receptive fields, in-place operations."""
