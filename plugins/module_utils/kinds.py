# Copyright: The Lightsout authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What a kind of resource is. The kinds themselves are in resources.py and in the kinds_….py beside this file."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.lightsout.aws.plugins.module_utils.calls import Clients, at_once
from ansible_collections.lightsout.aws.plugins.module_utils.naming import TAG_PROJECT


@dataclass(frozen=True)
class Resource:
    """One thing on AWS that carries a project's tag.

    Attributes:
        kind: the name of its Kind.
        id: what AWS calls it.
        name: what people call it; its id where it has no name.
        project: the value of its tag ``lightsout:project``.
        region: where it is; for things of IAM, which are everywhere, the region that they serve.
        state: AWS's word, empty for things that have none.
        leaving: it is being deleted already, there is only waiting left to do.
        tags: all its tags.
        raw: AWS's own description.
    """

    kind: str
    id: str
    name: str
    project: str
    region: str
    state: str = ""
    leaving: bool = False
    tags: dict[str, str] = field(default_factory=dict, compare=False, hash=False)
    raw: dict[str, Any] = field(default_factory=dict, compare=False, hash=False, repr=False)

    @property
    def key(self) -> tuple[str, str]:
        """What tells it from every other thing."""
        return self.kind, self.id


@dataclass(frozen=True)
class Scope:
    """Where to look, and for whom.

    Attributes:
        clients: makes boto3 clients.
        region: one AWS region.
        project: exact; None means every project, which is for looking only.
        keep_files: what people have stored on a file system outlives whatever it was made for.
        empty_buckets: what is in a bucket may be deleted with it.
    """

    clients: Clients
    region: str
    project: str | None
    keep_files: bool = False
    empty_buckets: bool = False

    def client(self, service: str):
        """The service's client in this region."""
        return self.clients(service, self.region)

    def covers(self, tags: dict[str, str]) -> bool:
        """Whether something with these tags is in scope. EC2's own filters know wildcards, this does not."""
        owner = tags.get(TAG_PROJECT)
        return bool(owner) if self.project is None else bool(self.project) and owner == self.project


def asked_for_tags(
    asks: Mapping[str, Callable[[], dict[str, str]]], gone: Callable[[Exception], bool]
) -> dict[str, dict[str, str]]:
    """The tags of things whose listing does not show them, asked for all at once.

    Args:
        asks: by id, what answers with the tags of one.
        gone: whether an error means that there is no such thing (any more), or none of ours; those are left out.

    Raises:
        Exception: what a call raised otherwise.
    """
    found = {}
    for ident, answer in at_once(dict(asks)).items():
        if not isinstance(answer, Exception):
            found[ident] = answer
        elif not gone(answer):
            raise answer
    return found


@dataclass(frozen=True)
class Kind:
    """A kind of resource.

    Attributes:
        title: for people, in the singular.
        service: as boto3 names it.
        find: returns all that is in scope.
        delete: asks AWS to delete one, or does what must come first, such as stopping it; may return before it is gone,
            and is called again as long as it is there.
        after: kinds of which nothing may be left before one of these is deleted.
        leaves: kinds of which something may come to light when one of these goes.
        alive: a project that has one of these is in use.
        unused: why one is of no use to a project that is in use, told from all that was found; empty when it is of use.
        born: the member of AWS's description that says since when there is one, in its present state.
        size: the type of its machine, or how much it holds, for people.
        month: USD that one costs in a month at list prices, as it is now; None where nobody knows.
    """

    title: str
    service: str
    find: Callable[[Scope], Iterable[Resource]]
    delete: Callable[[Scope, Resource], Any]
    after: tuple[str, ...] = ()
    leaves: tuple[str, ...] = ()
    alive: bool = False
    unused: Callable[[Resource, list[Resource]], str] = lambda _resource, _found: ""
    born: str | None = None
    size: Callable[[Resource], str] = lambda _resource: ""
    month: Callable[[Resource], float | None] = lambda _resource: 0.0

    @property
    def plural(self) -> str:
        """The title of several."""
        return self.title + ("es" if self.title.endswith("s") else "s")
