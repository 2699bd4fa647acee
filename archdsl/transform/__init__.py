"""Graph to graph: the form for inference, the recomputation of activations."""
