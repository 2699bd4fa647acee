"""What is measured of a checked graph: costs, memory, receptive field, what may be overwritten."""
