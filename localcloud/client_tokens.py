"""RunInstances keeps its promise about ClientToken, which moto ignores: the same request twice makes one machine.

https://docs.aws.amazon.com/ec2/latest/devguide/ec2-api-idempotency.html
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Callable
from typing import Any

from moto.ec2.exceptions import EC2ClientError

#: The longest token that EC2 takes, in ASCII characters.
LONGEST = 64


class IdempotentParameterMismatch(EC2ClientError):
    """The token was used before, with other parameters."""

    code = "IdempotentParameterMismatch"

    def __init__(self) -> None:
        super().__init__(
            self.code,
            "Arguments on this idempotent request are inconsistent with arguments used in previous request(s).",
        )


class InvalidToken(EC2ClientError):
    """The token is too long, or not ASCII."""

    code = "InvalidParameterValue"

    def __init__(self, token: str) -> None:
        super().__init__(self.code, f"Value ({token}) for parameter clientToken is invalid. Invalid client token.")


class Tokens:
    """Answers by token, for each account and region, as long as the cloud runs.

    A machine's end does not free its token: as on EC2, the same request is answered with the machine that is gone, and
    another request with an error.
    """

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._locks: dict[tuple[str, str, str], threading.Lock] = {}
        self._answers: dict[tuple[str, str, str], tuple[str, Any]] = {}

    def once(self, response: Any, run: Callable[[], Any]) -> Any:
        """The first answer to this token, made now if need be; two at once wait for each other.

        Args:
            response: moto's request, with its parameters, account and region.
            run: makes the machines. Where it fails, the token stays free.

        Raises:
            IdempotentParameterMismatch: the token came with other parameters before.
            InvalidToken: EC2 would not take it.
        """
        token = response._get_param("ClientToken")
        if not token or response._get_param("DryRun"):
            return run()
        if len(token) > LONGEST or not token.isascii():
            raise InvalidToken(token)
        key = (response.current_account, response.region, token)
        asked = hashlib.sha256(json.dumps(response.params, sort_keys=True, default=str).encode()).hexdigest()
        with self._guard:
            lock = self._locks.setdefault(key, threading.Lock())
        with lock:
            if key not in self._answers:
                self._answers[key] = (asked, run())
            first, answer = self._answers[key]
            if first != asked:
                raise IdempotentParameterMismatch
            return answer
