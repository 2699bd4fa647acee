"""Graph to graph: the inference form, and recomputation of activations."""
