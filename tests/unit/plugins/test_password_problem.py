"""A password may be any text that people can log in with, and none that is guessed at once."""

from __future__ import annotations

import pytest
from ansible_collections.lightsout.aws.plugins.filter.password_problem import password_problem


@pytest.mark.parametrize(
    "password",
    [
        "correct horse 'battery' \"staple\" ünïcode",
        "four words are better",
        "line one\nline two",
        "пароль-из-слов",
        "🗝🔑🔒🔓🔐🚪🏠🪟",
        "x7#Kq9!m",
        "quote ' \" $ ` \\ " + "long " * 36 + "end",
        "password of my grandmother",
        "abcd1234 and something else",
    ],
)
def test_good_enough(password: str) -> None:
    assert password_problem(password) == ""


@pytest.mark.parametrize(
    ("password", "what"),
    [
        ("", "has 0 characters; use at least 8"),
        ("seven77", "has 7 characters"),
        (" begins with a space", "login page takes away"),
        ("ends with a line break\n", "login page takes away"),
        ("a bell \a in it", "control character"),
        ("aaaaaaaaaaaa", "only 1 different"),
        ("12121212", "only 2 different"),
        ("password", "guessing"),
        ("Passw0rd!2026", "guessing"),
        ("P@$$w0rd", "guessing"),
        ("!!!Welcome123", "guessing"),
        ("correct horse battery staple", "guessing"),
        ("12345678", "guessing"),
        ("87654321", "guessing"),
        ("abcd1234", "guessing"),
        ("qwertyuiop", "guessing"),
        ("qwertzuiop1234", "guessing"),
        ("asdfghjkl", "guessing"),
        ("jupyter2026", "guessing"),
    ],
)
def test_what_is_refused_and_why(password: str, what: str) -> None:
    assert what in password_problem(password)


def test_the_least_length_is_a_setting() -> None:
    assert "use at least 30 (jupyter_password_minimum)" in password_problem("four words are better", 30)
    assert password_problem("x7#K q", 4) == ""
