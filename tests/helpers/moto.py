"""moto as it was: takes back what the local cloud changed in it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def restored(*owners: Any) -> Iterator[None]:
    """Take back every change to these modules and classes at the end."""
    before = {owner: dict(vars(owner)) for owner in owners}
    try:
        yield
    finally:
        for owner, names in before.items():
            for name in set(vars(owner)) - set(names):
                delattr(owner, name)
            for name, value in names.items():
                if vars(owner)[name] is not value:
                    setattr(owner, name, value)
