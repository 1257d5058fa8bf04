# Copyright: The Lightsout authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What is wrong with a password that somebody chose."""

from __future__ import annotations

import re
from typing import Any

#: What guessing programs try first, without the digits and signs that people put at the ends.
COMMON = set(
    """
    abc access admin administrator baseball batman changeme computer correcthorsebatterystaple default dragon flower
    football freedom guest hallo hello hottie iloveyou jesus jupyter jupyterlab lab letmein lightsout login lovely
    master michael monkey mustang ninja notebook pass passwort password princess qazwsx qwerty qwertz root secret
    shadow starwars sunshine superman test trustno ubuntu user welcome whatever zaq
    """.split()  # noqa: SIM905  a list of words reads better as words
)

#: Rows of keys and letters that fingers run along.
RUNS = ("abcdefghijklmnopqrstuvwxyz", "01234567890", "qwertyuiop", "qwertzuiop", "asdfghjkl", "zxcvbnm", "yxcvbnm")

#: So many different characters are in every password that is not one key pressed again and again.
DIFFERENT = 5

_LEET = str.maketrans("013457@$", "oieastas")


def _runs_along(text: str) -> bool:
    """Whether it is a piece of a row, there or back, or several of them of at least four keys each."""
    rows = [row for run in RUNS for row in (run, run[::-1])]
    if not text:
        return False
    while text:
        longest = next((n for n in range(len(text), 0, -1) if any(text[:n] in row for row in rows)), 0)
        if longest < min(4, len(text)):
            return False
        text = text[longest:]
    return True


def password_problem(password: str, minimum: int = 8) -> str:
    """What is wrong with it, as the end of a sentence that begins with "it"; empty when nothing is.

    Args:
        password: any text.
        minimum: how many characters it must have at least.
    """
    if len(password) < minimum:
        return f"has {len(password)} characters; use at least {minimum} (jupyter_password_minimum)"
    if password != password.strip():
        return "begins or ends with a space or a line break, which Jupyter's login page takes away; leave that out"
    if re.search(r"[\x00-\x08\x0e-\x1f]", password):
        return "holds a control character, which Jupyter's login page replaces; leave that out"
    if len(set(password)) < DIFFERENT:
        return f"has only {len(set(password))} different characters; use a few words"
    plain = password.casefold()
    core = re.sub(r"^[\W\d_]+|[\W\d_]+$", "", plain)
    words = {core, core.translate(_LEET), re.sub(r"\W", "", core)}
    if words & COMMON or _runs_along(re.sub(r"[\W_]", "", plain)):
        return "is among the first that a guessing program tries; use a few words"
    return ""


class FilterModule:
    """Ansible finds filters here."""

    def filters(self) -> dict[str, Any]:
        """Name to function."""
        return {"password_problem": password_problem}
