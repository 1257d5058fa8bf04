"""The images on offer."""

from __future__ import annotations

import json
import re

import pytest

from localcloud import catalog


@pytest.fixture(autouse=True)
def as_at_the_start(monkeypatch):
    """Editions that a test publishes are forgotten."""
    monkeypatch.setattr(catalog, "_editions", dict(catalog._editions))
    monkeypatch.setattr(catalog, "_by_id", dict(catalog._by_id))


def test_every_offer_has_a_parameter_and_an_id_of_its_own():
    assert len(catalog.BY_PARAMETER) == len(catalog.OFFERS)
    ids = [catalog.latest(offer.parameter) for offer in catalog.OFFERS]
    assert len(set(ids)) == len(ids)
    assert all(re.fullmatch(r"ami-[0-9a-f]{17}", each) for each in ids)


def test_both_architectures_are_named_in_parameter_and_name():
    for offer in catalog.OFFERS:
        arm = offer.architecture == "arm64"
        for text in (offer.parameter, offer.name):
            assert ("arm64" in text.lower()) == arm, text
            assert any(word in text for word in ("amd64", "x86_64")) != arm, text


def test_a_newer_edition_moves_the_parameter_and_leaves_the_old_image(tmp_path):
    parameter = catalog.OFFERS[0].parameter
    old = catalog.latest(parameter)
    new = catalog.publish(parameter)
    assert catalog.latest(parameter) == new != old
    assert catalog.offer_of(old) == catalog.offer_of(new) == catalog.OFFERS[0]
    catalog.write(tmp_path / "amis.json")
    written = {image["ami_id"]: image for image in json.loads((tmp_path / "amis.json").read_text())}
    assert written.keys() >= {old, new}
    assert written[old]["name"] < written[new]["name"]
    assert written[old]["creation_date"] < written[new]["creation_date"]


def test_an_unknown_image_is_none():
    assert catalog.offer_of("ami-1") is None
