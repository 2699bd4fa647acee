"""`archdsl.load`: one class per text and set of values."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import archdsl
from archdsl.common.limits import Limits
from archdsl.diagnostics import SpecError
from archdsl.runtime import loading

BLOCK = "block twice(width) { conv(width, 3) -> conv(width, 3) }\n"
MODEL = """from blocks import twice
model net(classes = 2) {
    input image[3, 8, 8]
    image -> twice(4) -> flatten -> linear(classes)
}
"""


@pytest.fixture
def spec(tmp_path: Path) -> Path:
    (tmp_path / "blocks.arch").write_text(BLOCK)
    path = tmp_path / "net.arch"
    path.write_text(MODEL)
    return path


def test_the_same_text_and_values_give_the_same_class(spec: Path) -> None:
    first, second = archdsl.load(spec), archdsl.load(spec, device="meta")
    assert type(first) is type(second)
    assert first(torch.zeros(1, 3, 8, 8)).shape == (1, 2)
    assert next(second.parameters()).is_meta


def test_what_differs_gives_another_class(spec: Path) -> None:
    loaded = [archdsl.load(spec), archdsl.load(spec, classes=3), archdsl.load(spec, inference=True)]
    spec.with_name("blocks.arch").write_text(BLOCK.replace("3)", "5)"))
    loaded.append(archdsl.load(spec))
    spec.write_text(MODEL.replace("twice(4)", "twice(6)"))
    loaded.append(archdsl.load(spec))
    assert len({type(network) for network in loaded}) == len(loaded)


def test_a_kept_class_keeps_no_limit_from_being_held(spec: Path) -> None:
    archdsl.load(spec)
    with pytest.raises(SpecError):
        archdsl.load(spec, limits=Limits(nodes=2))


def test_the_classes_that_are_kept_are_bounded(spec: Path) -> None:
    for classes in range(1, loading.KEPT + 3):
        archdsl.load(spec, device="meta", classes=classes)
    assert len(loading._classes) == loading.KEPT
