"""Fixes that errors propose, each tried before it is shown."""
