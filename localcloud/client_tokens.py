"""RunInstances keeps its promise about ClientToken, which moto ignores: the same request twice makes one machine.

https://docs.aws.amazon.com/ec2/latest/devguide/ec2-api-idempotency.html
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections import defaultdict
from collections.abc import Callable
from typing import Any

from moto.ec2.exceptions import EC2ClientError
from moto.ec2.responses.instances import InstanceResponse


class IdempotentParameterMismatch(EC2ClientError):
    """The token was used before, with other parameters."""

    code = "IdempotentParameterMismatch"

    def __init__(self) -> None:
        super().__init__(
            self.code,
            "Arguments on this idempotent request are inconsistent with arguments used in previous request(s).",
        )


class Tokens:
    """Answers by token, for each account and region."""

    def __init__(self) -> None:
        self._locks: dict[tuple[str, str, str], threading.Lock] = defaultdict(threading.Lock)
        self._answers: dict[tuple[str, str, str], tuple[str, Any]] = {}

    def once(self, response: InstanceResponse, run: Callable[[], Any]) -> Any:
        """The first answer to this token, made now if need be; two at once wait for each other.

        Raises:
            IdempotentParameterMismatch: the token came with other parameters before.
        """
        token = response._get_param("ClientToken")
        if not token:
            return run()
        key = (response.current_account, response.region, token)
        asked = hashlib.sha256(json.dumps(response.params, sort_keys=True, default=str).encode()).hexdigest()
        with self._locks[key]:
            if key not in self._answers:
                self._answers[key] = (asked, run())
            first, answer = self._answers[key]
            if first != asked:
                raise IdempotentParameterMismatch
            return answer
