"""Specs of families beyond the library, written by hand: timm's keys and numbers (`make test-zoo`)."""

from __future__ import annotations

import pytest
import timm
import torch

import archdsl
from tests import published
from tests.helpers import ROOT

FAMILIES = {
    "cait_xxs24_224": "cait",
    "convit_tiny": "convit",
    "deit_tiny_distilled_patch16_224": "deit",
    "edgenext_xx_small": "edgenext",
    "focalnet_tiny_srf": "focal",
    "gcvit_xxtiny": "gcvit",
    "ghostnetv2_100": "ghost",
    "inception_next_atto": "inception_next",
    "mobileone_s0": "mobileone",
    "repvit_m1_0": "repvit",
    "rexnet_100": "rexnet",
    "swiftformer_xs": "swiftformer",
    "tiny_vit_5m_224": "tiny_vit",
    "xcit_nano_12_p16_224": "xcit",
}


@pytest.mark.parametrize("name", FAMILIES)
def test_a_spec_by_hand_is_timms_model(name: str) -> None:
    reference = timm.create_model(name).eval()
    published.fill(reference)
    network = archdsl.load(f"{ROOT}/tests/data/families/{FAMILIES[name]}.arch:{name}").eval()
    network.load_state_dict(reference.state_dict())
    size = 256 if name.startswith("edgenext") else 224
    image = torch.rand(2, 3, size, size)
    with torch.no_grad():
        wanted, found = reference(image), network(image)
    assert (found - wanted).abs().max() < 1e-5 * wanted.std()
