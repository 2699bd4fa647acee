"""The proof of a build: reads the text that was written, alone, and shows that it computes its graph.

This is translation validation (Pnueli, Siegel and Singerman, 1998; Necula, 2000): not the generator is trusted, each of
its outputs is checked. The way of `prove`, a file each: `reader` takes a closed part of Python, which `vocabulary`
tells place by place, and refuses the rest; `meaning` says what the graph computes, as `terms`; the text then runs over
the same terms within a `budget`, with `modules` and `layers` for torch.nn and `library` for all else that it may
import; `comparing` holds the outputs and the state_dict against the graph, `sizes` the sizes that are accepted,
`inference` the weights of a form for inference, `augmentation` the changes of pictures. Nothing is shared with the
generator but what operations declare of themselves.
"""

from __future__ import annotations

from archdsl.augment.base import Pipeline
from archdsl.graph import Graph
from archdsl.proof.comparing import Proof
from archdsl.proof.errors import Unproved
from archdsl.transform.inference import Folding
from archdsl.transform.recompute import NOTHING, Recompute

__all__ = ["Unproved", "prove"]


def prove(
    text: str,
    graph: Graph,
    *,
    folding: Folding | None = None,
    recompute: Recompute = NOTHING,
    augmentation: tuple[str, Pipeline] | None = None,
) -> None:
    """Shows that a text computes a graph, which is that of its form. Raises Unproved, with what differs.

    `folding` is given for the form for inference, and tells the network that it must be in evaluation. `recompute` are
    the scopes that run again in the backward pass; `augmentation` is the class beside the model, with the changes of
    pictures that it makes.
    """
    Proof(text, graph, folding, recompute, augmentation).run()
