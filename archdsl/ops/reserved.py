"""The names that generated files use themselves, which nothing of a spec may have there."""

import builtins
import keyword
from collections.abc import Mapping, Sequence

from archdsl.ops import BLOCKS, OPERATIONS
from archdsl.ops.init import RULES

STANDARD: Mapping[str, Sequence[str]] = {
    "collections": ("OrderedDict",),
    "collections.abc": ("Callable", "Iterator", "Mapping"),
    "contextlib": ("contextmanager", "nullcontext"),
    "functools": ("partial", "wraps"),
    "typing": ("Any", "NamedTuple", "TypeAlias", "TypedDict", "Unpack"),
}
"""The modules that a file may import from the standard library."""

RESERVED = frozenset(
    {
        *(*keyword.kwlist, *keyword.softkwlist, *dir(builtins), "__class__"),
        *("self", "kw", "device", "dtype", "torch", "nn", "F", "Tensor"),
        *(name for names in STANDARD.values() for name in names),
        *(
            "Factory",
            "buffers_of",
            "checkpoint",
            "copied_buffers",
            "counted_before",
            "filled",
            "holder_of",
            "member",
            "recomputed",
            "recomputed_aligned_join",
            "recomputed_branch",
            "recomputed_features",
            "recomputed_join",
            "recomputed_layers",
            "with_buffers",
        ),
        *("DROPPED", "FOLDED", "RENAMED", "fold_batchnorms", "renamed"),
        "dynamic_shapes",
        *(name for cls in (*OPERATIONS.values(), *BLOCKS.values()) for name in cls.helper_names),
        *(f"init_{rule}" for rule in RULES),
        *("check_size", *(f"check_size{n}" for n in range(2, 100))),
    }
)
"""Names that a generated file uses itself: Python's words, its imports, its helpers."""
