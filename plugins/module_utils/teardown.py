# Copyright: The Lightsout authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Delete all that carries a project's tag, and prove that nothing is left."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.lightsout.aws.plugins.module_utils.calls import at_once
from ansible_collections.lightsout.aws.plugins.module_utils.naming import TAG_PROJECT, project_problem
from ansible_collections.lightsout.aws.plugins.module_utils.resources import KINDS, Resource, Scope, find_all
from ansible_collections.lightsout.aws.plugins.module_utils.sagemaker import is_missing
from ansible_collections.lightsout.aws.plugins.module_utils.sentences import error_code, error_message, explain

#: Something else still holds on to it, or a throttle: it is tried again when AWS has caught up.
_TRY_AGAIN = (
    "DependencyViolation",
    "VolumeInUse",
    "InUse",
    "Conflict",
    "IncorrectState",
    "IncorrectInstanceState",
    "ConcurrentModification",
    "Throttling",
    "RequestLimitExceeded",
)

#: Pauses between two looks that show the same, in seconds; the last one is repeated.
_PAUSES = (0.5, 1, 2, 3, 5)

#: How often a thing is tried that something holds on to which AWS refused to delete: it may also be held by what is
#: just vanishing, so once is not enough, and it may never be let go, so for ever is too long.
_PATIENCE = 5


@dataclass
class Outcome:
    """What a teardown did.

    Attributes:
        deleted: what is gone now.
        remaining: what is left, each with the reason as a sentence.
        unlisted: kinds that could not be listed at the end, so that nobody knows what is left of them.
    """

    deleted: list[Resource] = field(default_factory=list)
    remaining: list[tuple[Resource, str]] = field(default_factory=list)
    unlisted: dict[str, str] = field(default_factory=dict)


def unlisted(failed: dict[str, Exception]) -> dict[str, str]:
    """Why kinds could not be listed, as sentences."""
    return {kind: explain(error, f"list the {KINDS[kind].plural}") for kind, error in failed.items()}


def is_gone(error: Exception) -> bool:
    """True when AWS says that there is no such thing any more."""
    code = error_code(error)
    named = ("NoSuchEntity", "NoSuchBucket", "InvalidPlacementGroup.Unknown")
    return "NotFound" in code or code in named or is_missing(error)


def may_pass(error: Exception) -> bool:
    """True when the same call may be answered otherwise in a while."""
    code = error_code(error)
    # SageMaker's words for a state that has changed since we looked.
    changing = code == "ValidationException" and "Unable to transition" in error_message(error)
    return changing or any(mark in code for mark in _TRY_AGAIN)


def delete_one(scope: Scope, resource: Resource) -> None:
    """Ask AWS to delete one thing, after a last look at whose it is.

    Raises:
        PermissionError: it carries another project's tag; a fault of ours that must never reach AWS.
    """
    if not scope.project or resource.tags.get(TAG_PROJECT) != scope.project:
        raise PermissionError(f"{resource.id} does not carry {TAG_PROJECT}={scope.project}: it is not ours to delete.")
    KINDS[resource.kind].delete(scope, resource)


class Teardown:
    """One teardown of one project.

    Args:
        scope: with the project's name.
        kinds: names in KINDS.
        timeout: seconds after which to stop waiting.
        only: keys of the only things to delete; None for all that the project has.

    Raises:
        ValueError: no project, or not a name that we ever gave.
    """

    def __init__(
        self, scope: Scope, kinds: Iterable[str], timeout: float, only: set[tuple[str, str]] | None = None
    ) -> None:
        if scope.project is None or project_problem(scope.project):
            raise ValueError("a teardown needs a project's name")
        self.scope, self.kinds, self.only = scope, list(kinds), only
        self.deadline = time.monotonic() + timeout
        self.known: dict[tuple[str, str], Resource] = {}
        self.refused: dict[tuple[str, str], str] = {}
        self.held: dict[tuple[str, str], str] = {}
        self.tried: dict[tuple[str, str], int] = {}

    def run(self) -> Outcome:
        """Delete what is independent at the same time, until nothing is left or time is up.

        One failure stops nothing but what depends on it. The last look is at every kind again: it is the proof.
        """
        found, failed = self.look(self.kinds)
        while self.open(found) and not self.late():
            self.drain(found)
            found, failed = self.look(self.kinds)
        left = {resource.key for resource in found}
        return Outcome(
            deleted=[r for key, r in self.known.items() if key not in left and r.kind not in failed],
            remaining=[(r, self.why(r, found)) for r in found],
            unlisted=unlisted(failed),
        )

    def look(self, kinds: Iterable[str]) -> tuple[list[Resource], dict[str, Exception]]:
        """What is there now, and what could not be listed."""
        found, failed = find_all(self.scope, kinds)
        if self.only is not None:
            found = [resource for resource in found if resource.key in self.only]
        self.known |= {resource.key: resource for resource in found}
        return found, failed

    def open(self, found: list[Resource]) -> list[Resource]:
        """What there is still hope for."""
        return [resource for resource in found if resource.key not in self.refused]

    def seen(self) -> set[str]:
        """The kinds of all that there was."""
        return {kind for kind, _id in self.known}

    def late(self) -> bool:
        """Whether time is up."""
        return time.monotonic() > self.deadline

    def drain(self, found: list[Resource]) -> None:
        """Delete and look again, only at the kinds that are left, until there are none.

        While something moves, what comes after it is not kept waiting; the pauses grow while nothing does.
        """
        pauses = iter(_PAUSES)
        while True:
            self.delete_ready(found)
            kinds = {resource.kind for resource in self.open(found)}
            if not kinds or self.late():
                return
            time.sleep(next(pauses, _PAUSES[-1]))
            kinds |= {left for kind in self.seen() for left in KINDS[kind].leaves}
            before = {(resource.key, resource.state) for resource in found}
            found, _failed = self.look(kind for kind in self.kinds if kind in kinds)
            if before != {(resource.key, resource.state) for resource in found}:
                pauses = iter(_PAUSES)

    def delete_ready(self, found: list[Resource]) -> None:
        """Ask for the deletion of everything that nothing else stands before."""
        hopeful = self.open(found)
        kinds = {resource.kind for resource in hopeful}
        ready = [r for r in hopeful if not r.leaving and not kinds & set(KINDS[r.kind].after)]
        answers = at_once({r.key: lambda r=r: delete_one(self.scope, r) for r in ready})
        for resource in ready:
            self.note(resource, answers[resource.key])

    def note(self, resource: Resource, answer: Any) -> None:
        """Remember how a deletion went."""
        key = resource.key
        self.tried[key] = self.tried.get(key, 0) + 1
        if not isinstance(answer, Exception) or is_gone(answer):
            self.held.pop(key, None)
        elif not may_pass(answer):
            self.refused[key] = explain(answer, f"delete {KINDS[resource.kind].title} {resource.id}")
        else:
            self.held[key] = error_message(answer)
            blockers = {kind for kind, _id in self.refused} & set(KINDS[resource.kind].after)
            if blockers and self.tried[key] >= _PATIENCE:
                self.refused[key] = f"in use by what could not be deleted: {error_message(answer)}"

    def why(self, resource: Resource, found: list[Resource]) -> str:
        """Why something is still there, told from all that is."""
        if resource.key in self.refused:
            return self.refused[resource.key]
        if resource.key in self.held:
            return f"still in use when time was up: {self.held[resource.key]}"
        before = [other for other in found if other.kind in KINDS[resource.kind].after]
        if before:
            return f"waits until {KINDS[before[0].kind].title} {before[0].id} is gone"
        return f"still {resource.state or 'there'} when time was up"
