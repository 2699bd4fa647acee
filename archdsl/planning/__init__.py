"""How a network is laid out over many devices: where it is cut into stages, what fits, and what a step costs."""
