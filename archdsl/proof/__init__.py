"""The proof of a build: reads only the generated text and shows that it computes its graph.

This is translation validation (Pnueli, Siegel and Singerman, 1998; Necula, 2000): the generator is not trusted, each of
its outputs is checked. The steps of `prove`, one file each: `reader` accepts a closed subset of Python, which
`vocabulary` defines construct by construct, and rejects everything else; `meaning` gives the graph's computation as
`terms`; the text is then executed on the same terms within a `budget`, with `modules` and `layers` for torch.nn and
`library` for all other imports; `comparing` compares the outputs and the state_dict with the graph, `sizes` the
accepted sizes, `inference` the weights of the inference form, `augmentation` the augmentation. All that is shared with
the generator is what operations declare.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from archdsl.graph import Graph
from archdsl.proof.comparing import Proof
from archdsl.proof.errors import Unproved
from archdsl.transform.inference import Folding
from archdsl.transform.parallel import Parallel
from archdsl.transform.recompute import NOTHING, Recompute

if TYPE_CHECKING:
    from archdsl.augment.base import Pipeline

__all__ = ["Unproved", "prove"]


def prove(
    text: str,
    graph: Graph,
    *,
    folding: Folding | None = None,
    recompute: Recompute = NOTHING,
    parallel: Parallel | None = None,
    augmentation: tuple[str, Pipeline] | None = None,
) -> None:
    """Shows that a text computes a graph, which is that of its form. Raises Unproved, with the difference.

    `folding` is given for the inference form, with the network that it must match in evaluation. `recompute` are the
    scopes that run again in the backward pass; `parallel` says how a training is spread; `augmentation` is the name of
    the augmentation class, with its pipeline.
    """
    Proof(text, graph, folding, recompute, parallel, augmentation).run()
