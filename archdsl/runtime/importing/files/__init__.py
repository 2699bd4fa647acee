"""From a file with a network to a spec: the file becomes a PyTorch module, which is imported as every other.

Files are data: nothing of them runs. Each front end (`onnx_file`, `exported`, `rows`, `darknet`) reads one format and
gives a `program`: steps of layers and functions, in the modules that the file's names reveal.
"""

from archdsl.runtime.importing.files.opening import opened

__all__ = ["opened"]
