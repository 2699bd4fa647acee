"""Names in generated code: what a spec calls its blocks, parameters and members, as Python takes it."""

from __future__ import annotations

import keyword
import re
from collections.abc import Iterable

from archdsl.ops.reserved import RESERVED

MODULE_ATTRIBUTES = frozenset(
    """
    T_destination add_module append apply bfloat16 buffers call_super_init children clear compile cpu cuda double
    dump_patches eval extend extra_repr float forward get_buffer get_extra_state get_parameter get_submodule half insert
    ipu items keys load_state_dict modules mtia named_buffers named_children named_modules named_parameters parameters
    pop register_backward_hook register_buffer register_forward_hook register_forward_pre_hook
    register_full_backward_hook register_full_backward_pre_hook register_load_state_dict_post_hook
    register_load_state_dict_pre_hook register_module register_parameter register_state_dict_post_hook
    register_state_dict_pre_hook requires_grad_ set_extra_state set_submodule share_memory state_dict to to_empty train
    training type update values xpu zero_grad
    """.split()  # noqa: SIM905
)
"""Attributes of nn.Module and nn.Sequential, whose names no member can have."""


def is_owned(name: str) -> bool:
    """Whether every nn.Module has an attribute of that name: the member then is in `_modules` alone."""
    return name in MODULE_ATTRIBUTES or name.startswith("_")


def is_attribute(name: str) -> bool:
    """Whether a member can be `self.name`."""
    return name.isidentifier() and name.isascii() and not keyword.iskeyword(name) and not is_owned(name)


def camel(name: str) -> str:
    """`double_conv` as `DoubleConv`, `resnet18` as `Resnet18`."""
    parts = [p for p in re.split(r"[^0-9A-Za-z]+", name) if p]
    text = "".join(p[:1].upper() + p[1:] for p in parts)
    return text if text and not text[0].isdigit() else f"Block{text}"


def identifier(name: str, default: str = "value") -> str:
    """The name as Python's: `in` as `in_`, `größe` as `gr_e`."""
    text = re.sub(r"\W", "_", name, flags=re.ASCII)
    if not text or text[0].isdigit() or not text.strip("_"):
        text = f"{default}_{text}".rstrip("_")
    return text + "_" if text in RESERVED else text


def unique(name: str, taken: Iterable[str]) -> str:
    """The name, with a number where it is taken."""
    found, number = name, 1
    while found in taken:
        number += 1
        found = f"{name}{number}"
    return found
