"""From syntax to graph: blocks unrolled, names resolved, every node's size inferred as it is placed.

Tensors flow along arrows and down lines: a `Flow` is the tensors that flow at a point, one in most places, several
after a parallel. What failed flows on as the tensor `LOST`, which agrees with everything, so that one mistake gives one
error.
"""

from archdsl.elaborate.core import call_notes
from archdsl.elaborate.statements import elaborate

__all__ = ["call_notes", "elaborate"]
