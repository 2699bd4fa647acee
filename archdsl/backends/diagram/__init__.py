"""Diagrams: a graph as a picture that folds its blocks, in many formats, and as a page to walk through.

A graph is folded to a picture (`picture`, `opening`), which is laid out (`layered`, `ushape`, `volumes`) and written as
dot text in which everything has its place (`fixed`), or as a scene of shapes (`scene`). `formats` lists what files are
made of these; `drawing` has the functions that others call. This file imports nothing, since the command line reads
`formats` whatever it is asked for.
"""
