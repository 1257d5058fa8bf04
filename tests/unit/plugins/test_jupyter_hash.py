"""The hash is one that Jupyter takes, and stays the same as long as the password does."""

from __future__ import annotations

import pytest
from ansible.errors import AnsibleFilterError
from ansible_collections.lightsout.aws.plugins.filter import jupyter_hash as plugin
from argon2 import PasswordHasher

AWKWARD = "quote ' \" $ ` \n ünïcode 🗝 " + "x" * 180


@pytest.fixture(scope="module")
def known() -> str:
    return plugin.jupyter_hash(AWKWARD)


def test_argon2id_in_jupyters_form(known):
    assert known.startswith("argon2:$argon2id$v=19$m=10240,t=10,p=8$")
    assert PasswordHasher().verify(known.removeprefix("argon2:"), AWKWARD)
    assert plugin.is_jupyter_hash(known) and AWKWARD not in known


def test_with_the_salt_of_a_hash_the_same_password_has_the_same_hash(known):
    salt = known.rpartition("$")[0]
    assert plugin.jupyter_hash(AWKWARD, salt) == known
    assert plugin.jupyter_hash(AWKWARD + "!", salt) != known
    assert plugin.jupyter_hash(AWKWARD) != known


@pytest.mark.parametrize(
    "salt", ["", "sha1:0123456789ab", "argon2:broken", "argon2:$argon2id$v=19$m=8,t=1,p=1$" + "A" * 22]
)
def test_a_salt_that_is_not_of_ours_is_replaced(salt):
    assert plugin.jupyter_hash("x", salt).startswith("argon2:$argon2id$v=19$m=10240,t=10,p=8$")


@pytest.mark.parametrize("value", ["", "secret", "sha1:xyz:00", "argon2:", "argon2:$argon2id$v=19", None, 5])
def test_what_is_no_hash(value):
    assert not plugin.is_jupyter_hash(value)


def test_a_missing_library_is_told_with_the_way_to_get_it(monkeypatch):
    monkeypatch.setattr(plugin, "PasswordHasher", None)
    with pytest.raises(AnsibleFilterError, match="pip install argon2-cffi"):
        plugin.jupyter_hash("x")
