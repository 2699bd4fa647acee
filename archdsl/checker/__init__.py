"""From a SPEC to a checked graph: valid input sizes and lints."""
