"""Helpers for every package: spec text, files, limits, threads, interrupts, units."""
