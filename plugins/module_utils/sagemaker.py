# Copyright: The Lightsout authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What the SageMaker modules share: names, answers as plain dictionaries, tags by ARN, and waits that say the state."""

from __future__ import annotations

import datetime
import re
import time
from collections.abc import Callable, Iterable
from typing import Any

from ansible.module_utils.common.dict_transformations import camel_dict_to_snake_dict
from ansible_collections.lightsout.aws.plugins.module_utils.calls import pages
from ansible_collections.lightsout.aws.plugins.module_utils.naming import (
    TAG_PROJECT,
    tags_as_dict,
    tags_as_list,
    tags_to_set,
)
from ansible_collections.lightsout.aws.plugins.module_utils.sentences import (
    LightsoutError,
    error_code,
    error_message,
    explain,
)

#: Notebook instances, their lifecycle configurations, training jobs, user profiles, spaces and apps are all named so.
_NAME = re.compile(r"[a-zA-Z0-9](-*[a-zA-Z0-9])*")
LONGEST_NAME = 63
#: Text of ours or of the user's below these keys is not to be renamed.
_NOT_NAMES = ["Tags", "HyperParameters", "Environment"]
_MISSING = re.compile(r"RecordNotFound|not found|does not exist|could not find", re.IGNORECASE)
_TAKEN = re.compile(r"duplicate|already exist|in use", re.IGNORECASE)

#: A role that has just been made is not known everywhere for some seconds.
ROLE_PATIENCE = 90

TAG_OPTIONS = {"tags": {"type": "dict"}, "purge_tags": {"type": "bool", "default": False}}
WAIT_OPTIONS = {"wait": {"type": "bool", "default": True}, "wait_timeout": {"type": "int", "default": 900}}


def name_problem(option: str, value: str | None) -> str | None:
    """What is wrong with a name, as a sentence; None when nothing is, or when there is no name."""
    if value is None:
        return None
    if len(value) > LONGEST_NAME:
        return f"{option} is '{value}', which has {len(value)} characters: SageMaker allows {LONGEST_NAME}."
    if not _NAME.fullmatch(value):
        return (
            f"{option} is '{value}': use letters, digits and hyphens, with a letter or digit at both ends, "
            "for example 'lightsout-lab-notebook'."
        )
    return None


def name_problems(params: dict[str, Any], *options: str) -> list[str]:
    """What is wrong with the names among the options."""
    return [problem for option in options if (problem := name_problem(option, params[option]))]


# -- answers ------------------------------------------------------------------------------------------------------


def is_missing(error: BaseException) -> bool:
    """True when SageMaker says that there is no such thing, which it does in two ways."""
    code = error_code(error)
    missing = code == "ValidationException" and bool(_MISSING.search(error_message(error)))
    return missing or code in ("ResourceNotFound", "ResourceNotFoundException")


def is_taken(error: BaseException) -> bool:
    """True when SageMaker says that there is a thing of that name already."""
    taken = error_code(error) == "ValidationException" and bool(_TAKEN.search(error_message(error)))
    return taken or error_code(error) == "ResourceInUse"


def describe(call: Callable[..., dict], **request: Any) -> dict[str, Any] | None:
    """What a Describe call answers, None when there is no such thing."""
    try:
        answer = call(**request)
    except Exception as error:
        if is_missing(error):
            return None
        raise
    answer.pop("ResponseMetadata", None)
    return answer


def _as_text(value: Any) -> Any:
    """Times as ISO 8601 text, however deep they lie."""
    if isinstance(value, datetime.datetime):
        return value.isoformat()
    if isinstance(value, dict):
        return {key: _as_text(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_as_text(inner) for inner in value]
    return value


def same_key(now: str, wanted: str) -> bool:
    """Whether a KMS key is the wanted one, by its id or ARN. Which key an alias means, only KMS could say."""
    if "alias/" in wanted:
        return bool(now)
    return now.rpartition("key/")[2] == wanted.rpartition("key/")[2]


def plain(answer: dict[str, Any] | None, prefix: str = "") -> dict[str, Any]:
    """An answer in snake_case, with times as text.

    Args:
        answer: what SageMaker said; None gives an empty dictionary.
        prefix: what the names of the thing's own members begin with and shall not, so that ``NotebookInstanceArn``
            becomes ``arn``.
    """
    short = {key.removeprefix(prefix) or key: value for key, value in (answer or {}).items()}
    return camel_dict_to_snake_dict(_as_text(short), ignore_list=_NOT_NAMES)


# -- tags ---------------------------------------------------------------------------------------------------------


def read_tags(client, arn: str) -> dict[str, str]:
    """The tags of a thing."""
    return tags_as_dict(pages(client, "list_tags", "Tags", ResourceArn=arn))


def tags_to_drop(current: dict[str, str], wanted: dict[str, str] | None, purge: bool) -> list[str]:
    """The keys of tags that nobody wants, none unless they shall go. AWS's own cannot be taken away."""
    if not purge or wanted is None:
        return []
    return sorted(key for key in current if key not in wanted and not key.startswith("aws:"))


def tags_after(current: dict[str, str], wanted: dict[str, str] | None, purge: bool) -> dict[str, str]:
    """The tags as they shall be."""
    dropped = tags_to_drop(current, wanted, purge)
    return {**{key: value for key, value in current.items() if key not in dropped}, **(wanted or {})}


def write_tags(client, arn: str, current: dict[str, str], wanted: dict[str, str] | None, purge: bool) -> None:
    """Bring the tags to what is wanted with as few calls as that takes, which may be none."""
    missing, dropped = tags_to_set(current, wanted or {}), tags_to_drop(current, wanted, purge)
    if missing:
        client.add_tags(ResourceArn=arn, Tags=tags_as_list(missing))
    if dropped:
        client.delete_tags(ResourceArn=arn, TagKeys=dropped)


def refuse_foreign(what: str, tags: dict[str, str], wanted: dict[str, str] | None) -> None:
    """Keep away from what has our name and not our project's tag.

    Args:
        what: for example ``notebook instance lab``.
        tags: what it carries.
        wanted: the module's option; without lightsout:project in it, nothing is said about whose it is.

    Raises:
        LightsoutError: it is somebody else's.
    """
    project = (wanted or {}).get(TAG_PROJECT)
    if project is None or tags.get(TAG_PROJECT) == project:
        return
    whose = f"of project {tags[TAG_PROJECT]}" if TAG_PROJECT in tags else f"without the tag {TAG_PROJECT}"
    raise LightsoutError(
        f"There is a {what} already, {whose}, so it is not ours (project {project}): nothing was changed. Use another "
        "name, or delete or tag it yourself."
    )


# -- waits --------------------------------------------------------------------------------------------------------


def wait_until(
    look: Callable[[], dict[str, Any] | None],
    arrived: Iterable[str | None],
    what: str,
    timeout: float,
    status: str = "Status",
) -> dict[str, Any] | None:
    """Look again and again until a thing is in one of some states.

    botocore's waiters know no maintenance states, and do not say what they saw last.

    Args:
        look: describes the thing, None when there is none.
        arrived: the states that end the wait; None among them means that the thing is gone.
        what: for example ``notebook instance lab``.
        timeout: seconds.
        status: the member of the answer that holds the state.

    Returns:
        what was seen last.

    Raises:
        LightsoutError: it took too long; the message says what the state was.
    """
    arrived, begun, pause = set(arrived), time.monotonic(), 2.0
    while True:
        seen = look()
        state = seen[status] if seen else None
        if state in arrived:
            return seen
        if seen is None:
            raise LightsoutError(f"The {what} was deleted while it was waited for.")
        left = begun + timeout - time.monotonic()
        if left <= 0:
            goal = " or ".join(sorted(goal or "gone" for goal in arrived))
            raise LightsoutError(
                f"The {what} is still {state} after {timeout:g} seconds, not {goal} (wait_timeout). It goes on by "
                "itself; run this again to wait for it."
            )
        time.sleep(min(pause, left))
        pause = min(pause * 1.5, 15.0)


def patiently(operation: Callable[..., dict], **request: Any) -> dict[str, Any]:
    """A call that names a role, tried again while SageMaker cannot take on a new one yet."""
    deadline = time.monotonic() + ROLE_PATIENCE
    while True:
        try:
            return operation(**request)
        except Exception as error:
            young = error_code(error) == "ValidationException" and re.search(r"\brole\b", error_message(error), re.I)
            if not young or time.monotonic() > deadline:
                raise
        time.sleep(3)


# -- the end ------------------------------------------------------------------------------------------------------


def finish(module, doing: str, work: Callable[[], dict[str, Any]]) -> None:
    """Exit with what ``work`` returns, or fail with one line.

    Args:
        module: the AnsibleAWSModule.
        doing: what was being done, for example ``bring notebook instance lab to its state``.
        work: does it and returns the module's result.
    """
    try:
        result, failure = work(), None
    except Exception as error:
        result, failure = {}, explain(error, doing)
    if failure:
        module.fail_json(msg=failure)
    module.exit_json(**result)
