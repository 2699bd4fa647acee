"""Everything that runs networks with PyTorch: loading, weights, export, probe, look."""
