"""From a PyTorch module to a spec: its calls are recorded, said in the language, and proved to give the same numbers.

In order: `recording` runs the module and records its calls; `translating` says each as an operation (`layers`,
`functions`, `layouts`); `rewriting` replaces patterns; `structure` makes chains of the graph (`joining`); `blocks`
finds what repeats (`runs`, `alike`, `solving`); `writing` makes the text; `proving` compares the numbers.
"""

from archdsl.runtime.importing.importing import from_callable, from_module
from archdsl.runtime.importing.proving import Imported
from archdsl.runtime.importing.training import TrainingDiffers
from archdsl.runtime.refusal import ImportRefused

__all__ = ["ImportRefused", "Imported", "TrainingDiffers", "from_callable", "from_module"]
