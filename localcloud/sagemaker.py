"""SageMaker's frame: what every operation of it has, and moto lacks.

- Each request is checked against botocore's own model of the service: required members, lengths, ranges, patterns,
  enumerations, with the words that SageMaker has for them.
- Things are records: what Describe shows, with tags, and with states that take a while.
- Lists are filtered, sorted and paged.

The operations are in ``sagemaker_notebooks.py``, ``sagemaker_studio.py`` and ``sagemaker_training.py``.
"""

from __future__ import annotations

import base64
import json
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import regex  # knows the classes \p{L} of the model's patterns, which Python's own does not
from botocore.model import Shape
from moto.core.resource_tagging import TaggedResource
from moto.core.responses import ActionResult, EmptyResult
from moto.core.utils import get_service_model, utcnow
from moto.ec2.models import ec2_backends
from moto.iam.models import iam_backends
from moto.sagemaker.exceptions import AWSValidationException, SagemakerClientError
from moto.sagemaker.models import SageMakerModelBackend, sagemaker_backends
from moto.sagemaker.responses import SageMakerResponse
from moto.utilities.utils import get_partition

from localcloud.settings import log

#: Seconds that a state on the way to another lasts at least; on AWS it is minutes.
PACE = float(os.environ.get("LOCALCLOUD_SAGEMAKER_PACE", "1"))

#: So many things are on a page of a list unless the request says otherwise.
PAGE = 10


class Throttled(SagemakerClientError):
    """Too many requests."""

    code = "ThrottlingException"

    def __init__(self) -> None:
        super().__init__("Rate exceeded")


class ResourceLimitExceeded(SagemakerClientError):
    """The account may not have so many."""

    code = "ResourceLimitExceeded"

    def __init__(self, what: str, limit: int, used: int, asked: int) -> None:
        super().__init__(
            f"The account-level service limit '{what}' is {limit} Instances, with current utilization of {used} "
            f"Instances and a request delta of {asked} Instances. Please use AWS Service Quotas to request an increase "
            "for this quota. If AWS Service Quotas is not available, contact AWS support to request an increase for "
            "this quota."
        )


class Serialization(SagemakerClientError):
    """A member of the wrong type."""

    code = "SerializationException"


# -- requests ---------------------------------------------------------------------------------------------------------
def problems(shape: Shape, value: Any, path: str = "") -> Iterator[str]:
    """What SageMaker would say about a member, by its model.

    Args:
        shape: the model's word on it.
        value: what the request has there.
        path: where it is, as SageMaker writes it: ``tags.1.member.key``.

    Raises:
        Serialization: it is not even of the right type.
    """
    kinds = {"string": str, "integer": int, "long": int, "boolean": bool, "structure": dict, "map": dict, "list": list}
    wanted = kinds.get(shape.type_name)
    if wanted and (not isinstance(value, wanted) or (wanted is int and isinstance(value, bool))):
        raise Serialization(f"{type(value).__name__} value cannot be converted to {shape.type_name} at '{path}'")
    if shape.type_name == "structure":
        for name in shape.required_members:
            if value.get(name) is None:
                yield f"Value null at '{_below(path, name)}' failed to satisfy constraint: Member must not be null"
        for name, member in shape.members.items():
            if value.get(name) is not None:
                yield from problems(member, value[name], _below(path, name))
        return
    if shape.type_name == "list":
        for number, each in enumerate(value, 1):
            yield from problems(shape.member, each, f"{path}.{number}.member")
    if shape.type_name == "map":
        for key, each in value.items():
            yield from problems(shape.key, key, f"{path}.{key}.key")
            yield from problems(shape.value, each, f"{path}.{key}.member")
    for broken in _broken(shape, value):
        shown = json.dumps(value) if isinstance(value, list | dict) else value
        yield f"Value '{shown}' at '{path}' failed to satisfy constraint: {broken}"


def _below(path: str, name: str) -> str:
    return f"{path}.{name[0].lower()}{name[1:]}".lstrip(".")


def _broken(shape: Shape, value: Any) -> Iterator[str]:
    """The constraints of this very member that do not hold."""
    least, most, pattern = (shape.metadata.get(name) for name in ("min", "max", "pattern"))
    if shape.type_name in ("string", "list", "map"):
        if least is not None and len(value) < least:
            yield f"Member must have length greater than or equal to {least}"
        if most is not None and len(value) > most:
            yield f"Member must have length less than or equal to {most}"
    elif shape.type_name in ("integer", "long", "float", "double"):
        if least is not None and value < least:
            yield f"Member must have value greater than or equal to {least}"
        if most is not None and value > most:
            yield f"Member must have value less than or equal to {most}"
    if shape.metadata.get("enum") and value not in shape.metadata["enum"]:
        yield f"Member must satisfy enum value set: [{', '.join(shape.metadata['enum'])}]"
    if pattern and not regex.fullmatch(pattern, value):
        yield f"Member must satisfy regular expression pattern: {pattern}"


def check(operation: str, request: dict[str, Any]) -> None:
    """Refuse a request that does not fit SageMaker's model of the operation.

    Raises:
        SagemakerClientError: with all that is wrong with it.
    """
    model = get_service_model("sagemaker")
    shape = model.operation_model(operation).input_shape if operation in model.operation_names else None
    found = list(problems(shape, request)) if shape else []
    if found:
        count = f"{len(found)} validation error{'s' * (len(found) > 1)} detected"
        raise AWSValidationException(f"{count}: {'; '.join(found)}")


# -- records ----------------------------------------------------------------------------------------------------------
@dataclass(eq=False)
class Record:
    """A thing that somebody made, and what Describe shows of it.

    Attributes:
        status_member: what its status is called there.
        values: members of Describe's answer.
        hidden: what else belongs to it.
    """

    arn: str
    status_member: str
    values: dict[str, Any]
    tags: list[dict[str, str]]
    hidden: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        now = utcnow()
        self.values.update(CreationTime=now, LastModifiedTime=now)

    @property
    def region(self) -> str:
        """Where it is."""
        return self.arn.split(":")[3]

    @property
    def account(self) -> str:
        """Whose it is."""
        return self.arn.split(":")[4]

    @property
    def status(self) -> str:
        """What it does now."""
        return self.values.get(self.status_member, "")

    @status.setter
    def status(self, status: str) -> None:
        self.values[self.status_member] = status
        self.values["LastModifiedTime"] = utcnow()

    def require(self, states: list[str], target: str, what: str) -> None:
        """Refuse, in SageMaker's words, what cannot be done in this state.

        Raises:
            AWSValidationException: it is in none of these states.
        """
        if self.status not in states:
            raise AWSValidationException(
                f"Status ({self.status}) not in ([{', '.join(states)}]). Unable to transition to ({target}) for {what} "
                f"({self.arn})."
            )

    def go(self, during: str, then: str | Callable[[], None], work: Callable[[], None] | None = None) -> None:
        """Be in a state as long as some work takes, and then in another; where the work fails, say so.

        Args:
            then: the state after it, or what to do then.
            work: raises where it fails.
        """
        self.status = during

        def run() -> None:
            began = time.monotonic()
            try:
                if work:
                    work()
            except Exception as error:
                log(f"{self.arn} failed: {error}")
                self.values["FailureReason"] = str(error)
                self.status = "Failed"
                return
            time.sleep(max(0.0, PACE - (time.monotonic() - began)))
            if callable(then):
                then()
            else:
                self.status = then

        in_background(run)

    # moto's own Search looks at these
    def gen_response_object(self) -> dict[str, Any]:
        """What Search shows."""
        return self.values


def in_background(run: Callable[[], None]) -> None:
    """Do something while the API answers others."""
    threading.Thread(target=run, name="sagemaker", daemon=True).start()


def backends() -> Iterator[SageMakerModelBackend]:
    """Of every account and region that was asked for something."""
    for account in list(sagemaker_backends.values()):
        yield from list(account.values())


def shelf(backend: SageMakerModelBackend, kind: str) -> dict[Any, Record]:
    """The records of a kind for which moto has no place; ``kind`` is the one of their ARNs."""
    return backend.__dict__.setdefault("localcloud_shelves", {}).setdefault(kind, {})


def all_records(backend: SageMakerModelBackend) -> Iterator[Record]:
    """Those that are ours, of all kinds."""
    places = [
        backend.notebook_instances,
        backend.notebook_instance_lifecycle_configurations,
        backend.training_jobs,
        backend.domains,
        *backend.__dict__.get("localcloud_shelves", {}).values(),
    ]
    for place in places:
        yield from (each for each in list(place.values()) if isinstance(each, Record))


def arn(backend: SageMakerModelBackend, resource: str) -> str:
    """An ARN of SageMaker's."""
    region = backend.region_name
    return f"arn:{get_partition(region)}:sagemaker:{region}:{backend.account_id}:{resource}"


def given(response: SageMakerResponse, *names: str) -> dict[str, Any]:
    """The members among these that a request has."""
    found = {name: response._get_param(name) for name in names}
    return {name: value for name, value in found.items() if value is not None}


def assume(backend: SageMakerModelBackend, role_arn: str) -> None:
    """SageMaker must be able to take the role on.

    Raises:
        AWSValidationException: there is no such role, or it trusts others only.
    """
    partition = get_partition(backend.region_name)
    roles = iam_backends[backend.account_id][partition].roles.values()
    role = next((role for role in roles if role.arn == role_arn), None)
    if role is None or "sagemaker.amazonaws.com" not in json.dumps(role.assume_role_policy_document):
        raise AWSValidationException(
            f"Could not assume role {role_arn}. Please ensure that the role exists and allows principal "
            "'sagemaker.amazonaws.com' to assume the role."
        )


def check_network(backend: SageMakerModelBackend, subnets: Iterable[str], groups: Iterable[str]) -> None:
    """Subnets and security groups must exist.

    Raises:
        AWSValidationException: one does not.
    """
    ec2 = ec2_backends[backend.account_id][backend.region_name]
    known = {subnet for zone in ec2.subnets.values() for subnet in zone}
    for subnet in subnets:
        if subnet not in known:
            raise AWSValidationException(f"The subnet ID '{subnet}' does not exist")
    for group in groups:
        if ec2.get_security_group_from_id(group) is None:
            raise AWSValidationException(f"The security group '{group}' does not exist")


# -- lists ------------------------------------------------------------------------------------------------------------
def listed(
    response: SageMakerResponse, answer: str, records: Iterable[Record], name_member: str, sort: str = "Name"
) -> ActionResult:
    """A page of a list: what the request's filters leave, in its order.

    Args:
        answer: the member of the answer that has the list.
        name_member: what the things' name is called.
        sort: what it is sorted by where the request does not say.
    """
    asked = response._get_param
    found = [record for record in records if _matches(response, record, name_member)]
    by = asked("SortBy") or sort
    member = {"Name": name_member, "CreationDate": "CreationTime"}.get(by, by)

    def key(record: Record) -> list[str]:
        value = record.status if member == "Status" else record.values.get(member, "")
        return [value.isoformat() if isinstance(value, datetime) else str(value), record.arn]

    falling = asked("SortOrder") == "Descending"
    found.sort(key=key, reverse=falling)
    if token := asked("NextToken"):
        try:
            last = json.loads(base64.b64decode(token, validate=True))
        except ValueError as error:
            raise AWSValidationException("Invalid pagination token.") from error
        found = [record for record in found if (key(record) < last if falling else key(record) > last)]
    size = asked("MaxResults") or PAGE
    page, rest = found[:size], found[size:]
    more = {"NextToken": base64.b64encode(json.dumps(key(page[-1])).encode()).decode()} if rest else {}
    return ActionResult({answer: [record.values for record in page], **more})


def _matches(response: SageMakerResponse, record: Record, name_member: str) -> bool:
    """Whether the filters that all lists have let a record through."""
    asked = response._get_param
    word = (asked("NameContains") or asked(f"{name_member}Contains") or "").lower()
    if word not in record.values[name_member].lower() or asked("StatusEquals") not in (None, record.status):
        return False
    for member in ("CreationTime", "LastModifiedTime"):
        before, after = asked(f"{member}Before"), asked(f"{member}After")
        if (before and record.values[member] >= before) or (after and record.values[member] <= after):
            return False
    return True


# -- tags -------------------------------------------------------------------------------------------------------------
def record_of(backend: SageMakerModelBackend, resource: str) -> Record | None:
    """The record with an ARN, if it is one of ours."""
    return next((record for record in all_records(backend) if record.arn == resource), None)


def tags() -> None:
    """AddTags, ListTags, DeleteTags: of our records, too; a key is there once."""
    original = SageMakerModelBackend._get_resource_from_arn

    def found(backend: SageMakerModelBackend, resource: str) -> Any:
        record = record_of(backend, resource) or original(backend, resource)
        if record is None:
            raise AWSValidationException(f"Could not find resource with ARN {resource}.")
        return record

    def add(backend: SageMakerModelBackend, arn: str, tags: list[dict[str, str]]) -> list[dict[str, str]]:
        record = backend._get_resource_from_arn(arn)
        merged = {tag["Key"]: tag for tag in [*record.tags, *tags]}
        if len(merged) > 50:
            raise AWSValidationException(f"The number of tags exceeds the limit of 50 for {arn}")
        record.tags = list(merged.values())
        return record.tags

    iterate = SageMakerModelBackend.iter_tagged_resources

    def tagged(backend: SageMakerModelBackend) -> Iterator[TaggedResource]:
        yield from iterate(backend)
        for kind, records in backend.__dict__.get("localcloud_shelves", {}).items():
            for record in list(records.values()):
                pairs = {tag["Key"]: tag["Value"] for tag in record.tags}
                yield TaggedResource(arn=record.arn, tags=pairs, resource_type=f"sagemaker:{kind}")

    SageMakerModelBackend._get_resource_from_arn, SageMakerModelBackend.add_tags = found, add
    SageMakerModelBackend.iter_tagged_resources = tagged


# -- calls ------------------------------------------------------------------------------------------------------------
class Limits:
    """What a test can order: quotas, exhausted types, throttled calls.

    Attributes:
        quotas: instance type, and how many the account may have at once; other types are unlimited.
        exhausted: instance types of which there are none left.
        throttled: so many of the next calls are refused.
    """

    def __init__(self) -> None:
        self.quotas: dict[str, int] = {}
        self.exhausted: set[str] = set()
        self.throttled = 0
        self._lock = threading.Lock()

    def order(self, wish: dict[str, Any]) -> None:
        """Set what is named in ``wish``."""
        with self._lock:
            self.quotas = {str(kind): int(most) for kind, most in wish.get("quotas", self.quotas).items()}
            self.exhausted = set(wish.get("exhausted", self.exhausted))
            self.throttled = int(wish.get("throttled", self.throttled))

    def throttle_now(self) -> bool:
        """Whether this call is one too many."""
        with self._lock:
            self.throttled = max(self.throttled, 0)
            refused = self.throttled > 0
            self.throttled -= refused
            return refused

    def admit(self, kind: str, use: str, used: int, asked: int = 1) -> None:
        """Refuse more machines of a type than the account may have.

        Args:
            kind: the instance type.
            use: ``notebook instance``, ``training job``.

        Raises:
            ResourceLimitExceeded: there would be too many.
        """
        limit = self.quotas.get(kind)
        if limit is not None and used + asked > limit:
            raise ResourceLimitExceeded(f"{kind} for {use} usage", limit, used, asked)


#: The ones of this process.
limits = Limits()


def checked_calls() -> None:
    """Every call: throttled where a test wants it, and checked before anything reads its parameters."""
    parse, call = SageMakerResponse.parse_parameters, SageMakerResponse.call_action

    def parsed(response: SageMakerResponse, request: Any) -> None:
        response.refusal = None
        try:
            if limits.throttle_now():
                raise Throttled
            check(response._get_action(), json.loads(response.body or "{}"))
        except SagemakerClientError as error:
            response.refusal, response.params = error, {}
            return
        parse(response, request)

    def called(response: SageMakerResponse) -> Any:
        if response.refusal is None:
            return call(response)
        status, headers, body = response.serialized(ActionResult(response.refusal))
        return status, {**headers, "status": status}, body

    SageMakerResponse.refusal = None
    SageMakerResponse.parse_parameters, SageMakerResponse.call_action = parsed, called


def apply() -> None:
    """What all operations share."""
    checked_calls()
    tags()


def teach(**operations: Callable[[SageMakerResponse], ActionResult | dict[str, Any] | None]) -> None:
    """Let moto's SageMaker have these operations, by their names in Python.

    Args:
        operations: each gets the request, and returns the members of the answer.
    """

    def method(operation: Callable[[SageMakerResponse], Any]) -> Callable[[SageMakerResponse], ActionResult]:
        def answer(response: SageMakerResponse) -> ActionResult:
            result = operation(response)
            if isinstance(result, ActionResult):
                return result
            return EmptyResult() if result is None else ActionResult(result)

        return answer

    for name, operation in operations.items():
        setattr(SageMakerResponse, name, method(operation))
