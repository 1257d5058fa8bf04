"""A path is as its user means it, whatever folder a module runs in."""

from __future__ import annotations

import pytest
from ansible_collections.lightsout.aws.plugins.filter.from_here import from_here


@pytest.mark.parametrize(
    ("given", "meant"),
    [("results", "{here}/results"), ("./a b/é", "{here}/a b/é"), ("~/x", "{home}/x"), ("/x/y", "/x/y"), ("", "")],
)
def test_it_is_taken_from_the_current_folder(given, meant, tmp_path, monkeypatch) -> None:
    home = tmp_path / "home"
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.chdir(tmp_path)
    assert from_here(given) == meant.format(here=tmp_path, home=home)
