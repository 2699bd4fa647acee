"""Python code as a tree, and the one printer that writes it: what every backend that generates Python is built on."""
