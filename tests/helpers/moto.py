"""moto as it was: takes back what the local cloud changed in it; and what its calls are refused with."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from botocore.exceptions import ClientError


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


def refusal(call: Callable[..., Any], **words: Any) -> tuple[str, str]:
    """Code and message of the error that a call gets."""
    with pytest.raises(ClientError) as error:
        call(**words)
    return error.value.response["Error"]["Code"], error.value.response["Error"]["Message"]
