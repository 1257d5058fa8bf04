# Copyright: The Lightsout authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""SageMaker Studio: domains, user profiles, spaces and apps are found, made, changed and deleted in the same way."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from ansible_collections.lightsout.aws.plugins.module_utils import sagemaker
from ansible_collections.lightsout.aws.plugins.module_utils.calls import Clients, pages
from ansible_collections.lightsout.aws.plugins.module_utils.naming import tags_as_list
from ansible_collections.lightsout.aws.plugins.module_utils.sentences import LightsoutError, numbered

#: States that last. Every other one ends by itself.
SETTLED = ("InService", "Failed", "Update_Failed", "Delete_Failed")
#: An app that is gone is still described, for a day.
GONE = (None, "Deleted")
APP_KINDS = ["JupyterLab", "CodeEditor"]

ROLE = re.compile(r"arn:aws[a-z-]*:iam::\d{12}:role/\S+")
_DOMAIN_ID = re.compile(r"d-(-*[a-z0-9]){1,61}")
_INSTANCE_TYPE = re.compile(r"(system|ml(\.[a-z0-9-]+){2})")


@dataclass(frozen=True)
class Kind:
    """One of Studio's kinds of things.

    Attributes:
        noun: what people call it.
        word: how operations name it, as in ``describe_user_profile``; also the name of the module's result.
        prefix: how its own members begin.
        key: the members that say which one it is.
        fixed: the members that only a new one can have.
    """

    noun: str
    word: str
    prefix: str
    key: tuple[str, ...]
    fixed: tuple[str, ...] = ()

    def call(self, client, verb: str) -> Callable[..., dict[str, Any]]:
        """The client's method, for example ``create_space``."""
        return getattr(client, f"{verb}_{self.word}")

    def each(self, client, **request: Any) -> list[dict[str, Any]]:
        """All that there are, without the deleted ones that are still shown."""
        found = pages(client, f"list_{self.word}s", f"{self.prefix}s", **request)
        return [one for one in found if one["Status"] not in GONE]

    def key_of(self, one: dict[str, Any]) -> dict[str, str]:
        """The members of a listed one that say which it is."""
        key = {member: one[member] for member in self.key if one.get(member)}
        if "SpaceName" in key:
            key.pop("UserProfileName", None)  # AWS lists whose space it is and wants only the space
        return key

    def title(self, key: dict[str, str]) -> str:
        """What messages call it, for example ``Studio app JupyterLab default of lab``."""
        names = [key[member] for member in ("AppType", f"{self.prefix}Name") if member in key]
        owner = key.get("SpaceName") or key.get("UserProfileName") if self is APP else None
        return " ".join([self.noun, *(names or [key.get("DomainId", "")]), *(["of", owner] if owner else [])])


DOMAIN = Kind("Studio domain", "domain", "Domain", ("DomainId",), ("AuthMode", "VpcId", "KmsKeyId"))
USER_PROFILE = Kind(
    "Studio user profile",
    "user_profile",
    "UserProfile",
    ("DomainId", "UserProfileName"),
    ("SingleSignOnUserIdentifier", "SingleSignOnUserValue"),
)
SPACE = Kind("Studio space", "space", "Space", ("DomainId", "SpaceName"), ("OwnershipSettings", "SpaceSharingSettings"))
APP = Kind("Studio app", "app", "App", ("DomainId", "SpaceName", "UserProfileName", "AppType", "AppName"))

#: What is in what, in the order in which it can be deleted.
ORDER = (APP, SPACE, USER_PROFILE)


SPEC_OPTIONS: dict[str, Any] = {
    option: {} for option in ("instance_type", "image_arn", "image_version_arn", "lifecycle_config_arn")
}
SHARED_OPTIONS: dict[str, Any] = {
    "state": {"choices": ["present", "absent"], "default": "present"},
    **sagemaker.TAG_OPTIONS,
    **sagemaker.WAIT_OPTIONS,
}


# -- options --------------------------------------------------------------------------------------------------------


def problems(params: dict[str, Any], *names: str) -> list[str]:
    """What is wrong with the options by themselves.

    Args:
        params: the module's.
        names: the options that are names.
    """
    found = sagemaker.name_problems(params, *names) + domain_problems(params)
    if params.get("execution_role") is not None and not ROLE.fullmatch(params["execution_role"]):
        found.append(
            f"execution_role is '{params['execution_role']}': give the ARN of a role, "
            "arn:aws:iam::123456789012:role/name."
        )
    if params.get("instance_type") is not None and not _INSTANCE_TYPE.fullmatch(params["instance_type"]):
        found.append(f"instance_type is '{params['instance_type']}': write it as SageMaker does, such as ml.t3.medium.")
    if params.get("volume_size") is not None and not 5 <= params["volume_size"] <= 16384:
        found.append(f"volume_size is {params['volume_size']}: SageMaker allows 5 to 16384 GiB.")
    for option, least, most in (("security_group_ids", 0, 5), ("subnet_ids", 1, 16)):
        count = len(params.get(option) or [])
        if params.get(option) is not None and not least <= count <= most:
            found.append(f"{option} has {count} entries: SageMaker allows {least} to {most}.")
    found += _idle_problems(params)
    if params["wait_timeout"] < 1:
        found.append(f"wait_timeout is {params['wait_timeout']}: give a number of seconds.")
    return found


def domain_problems(params: dict[str, Any]) -> list[str]:
    """What is wrong with the ID of a domain, if there is one."""
    ident = params.get("domain_id")
    if ident is None or _DOMAIN_ID.fullmatch(ident):
        return []
    return [f"domain_id is '{ident}': give the domain's ID, such as d-abcdefghijkl."]


def _idle_problems(params: dict[str, Any]) -> list[str]:
    found = []
    off = {0} if "idle_timeout_max" in params else set()
    for option, allowed in (("idle_timeout", off), ("idle_timeout_max", set())):
        minutes = params.get(option)
        if minutes is not None and minutes not in allowed and not 60 <= minutes <= 525600:
            never = ", or 0 for never" if allowed else ""
            found.append(f"{option} is {minutes}: SageMaker allows 60 to 525600 minutes{never}.")
    most = params.get("idle_timeout_max")
    if not found and most is not None and not 0 < (params["idle_timeout"] or 0) <= most:
        found.append(f"idle_timeout_max is {most}: it needs an idle_timeout from 60 to {most}.")
    return found


def nested(**given: Any) -> dict[str, Any]:
    """Members of a request: those that were given, and of the structures those that hold something."""
    return {name: value for name, value in given.items() if value is not None and value != {}}


def user_settings(params: dict[str, Any]) -> dict[str, Any]:
    """UserSettings of a domain or a user profile: role, security groups, and the idle stop for both kinds of apps."""
    minutes, idle = params["idle_timeout"], {}
    if minutes is not None:
        switch = {"LifecycleManagement": "ENABLED" if minutes else "DISABLED"}
        times = nested(IdleTimeoutInMinutes=minutes or None, MaxIdleTimeoutInMinutes=params["idle_timeout_max"])
        idle = {"AppLifecycleManagement": {"IdleSettings": switch | times}}
    return nested(
        ExecutionRole=params["execution_role"],
        SecurityGroups=params["security_group_ids"],
        JupyterLabAppSettings=idle,
        CodeEditorAppSettings=idle,
    )


def resource_spec(params: dict[str, Any]) -> dict[str, Any]:
    """ResourceSpec of an app or of a space's app."""
    return nested(
        InstanceType=params["instance_type"],
        SageMakerImageArn=params["image_arn"],
        SageMakerImageVersionArn=params["image_version_arn"],
        LifecycleConfigArn=params["lifecycle_config_arn"],
    )


def merged(now: dict[str, Any], wanted: dict[str, Any]) -> dict[str, Any]:
    """What is with what is wanted laid over it."""
    both = dict(now)
    for name, value in wanted.items():
        below = both.get(name)
        both[name] = merged(below, value) if isinstance(below, dict) and isinstance(value, dict) else value
    return both


def _same(member: str, have: Any, want: Any) -> bool:
    if isinstance(want, list):
        return sorted(have or []) == sorted(want)
    if member == "KmsKeyId":
        return sagemaker.same_key(have or "", want)
    return have == want


def differences(
    now: dict[str, Any], wanted: dict[str, Any], path: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], Any, Any]]:
    """The path of each wanted member that is otherwise, what it is and what it shall be."""
    for name, want in wanted.items():
        have = now.get(name)
        if isinstance(want, dict):
            yield from differences(have or {}, want, (*path, name))
        elif not _same(name, have, want):
            yield (*path, name), have, want


# -- what is inside ---------------------------------------------------------------------------------------------------


def inside(client, kind: Kind, key: dict[str, str]) -> list[tuple[Kind, dict[str, str]]]:
    """What keeps a thing from being deleted, in the order in which it can be deleted."""
    if kind is APP:
        return []
    domain = {"DomainIdEquals": key["DomainId"]}
    apps, spaces, profiles = APP.each(client, **domain), [], []
    if kind is SPACE:
        apps = [one for one in apps if one.get("SpaceName") == key["SpaceName"]]
    else:
        spaces = SPACE.each(client, **domain)
    if kind is USER_PROFILE:
        mine = key["UserProfileName"]
        spaces = [one for one in spaces if _owner(one) == mine]
        names = {one["SpaceName"] for one in spaces}
        apps = [
            one
            for one in apps
            if (one["SpaceName"] in names if one.get("SpaceName") else one.get("UserProfileName") == mine)
        ]
    if kind is DOMAIN:
        profiles = USER_PROFILE.each(client, **domain)
    found = zip(ORDER, (apps, spaces, profiles), strict=True)
    return [(inner, inner.key_of(one)) for inner, ones in found for one in ones]


def _owner(space: dict[str, Any]) -> str | None:
    return (space.get("OwnershipSettingsSummary") or {}).get("OwnerUserProfileName")


class Thing:
    """One domain, user profile, space or app.

    Args:
        client: SageMaker's.
        kind: which kind.
        key: the members that say which one; empty for one that has no ID yet.
        timeout: seconds that each wait may take.
        title: what messages call it, when its key does not say.
    """

    def __init__(self, client, kind: Kind, key: dict[str, str], timeout: float, title: str = "") -> None:
        self.client, self.kind, self.key, self.timeout = client, kind, key, timeout
        self.what = title or kind.title(key)
        self.raw: dict[str, Any] | None = None

    @property
    def status(self) -> str:
        """The state that was seen last."""
        return self.raw["Status"] if self.raw else ""

    def look(self) -> dict[str, Any] | None:
        """Describe it; None when there is none (any more)."""
        raw = sagemaker.describe(self.kind.call(self.client, "describe"), **self.key) if self.key else None
        self.raw = None if raw and raw["Status"] in GONE else raw
        return self.raw

    def wait(self, *arrived: str | None) -> None:
        """Wait for one of some states."""
        sagemaker.wait_until(self.look, arrived, self.what, self.timeout)

    def reason(self) -> str:
        """Why it failed."""
        return (self.raw or {}).get("FailureReason") or "SageMaker gives no reason"

    def delete(self, **more: Any) -> bool:
        """Ask for its deletion, when it can be asked for; False when there is nothing left to ask for."""
        self.look()
        if self.raw and self.status not in (*SETTLED, "Deleting"):
            self.wait(*SETTLED, None)
        if not self.raw or self.status == "Deleting":
            return False
        try:
            self.kind.call(self.client, "delete")(**self.key, **more)
        except Exception as error:
            if not sagemaker.is_missing(error):  # somebody else was first
                raise
            return False
        return True

    def wait_gone(self) -> None:
        """Wait for the end of its deletion.

        Raises:
            LightsoutError: it failed.
        """
        self.wait(None, "Delete_Failed")
        if self.raw:
            raise LightsoutError(f"The {self.what} could not be deleted: {self.reason()}.")


def empty(client, found: list[tuple[Kind, dict[str, str]]], timeout: float) -> None:
    """Delete what is inside: all apps, then all spaces, then all user profiles."""
    for kind in ORDER:
        things = [Thing(client, kind, key, timeout) for inner, key in found if inner is kind]
        for thing in things:
            thing.delete()
        for thing in things:
            thing.wait_gone()


# -- the modules' engine ----------------------------------------------------------------------------------------------


def read(kind: Kind, raw: dict[str, Any] | None, tags: dict[str, str]) -> dict[str, Any]:
    """A thing in snake_case, its own members without their prefix; empty for none."""
    if not raw:
        return {}
    seen = sagemaker.plain(raw, kind.prefix)
    if kind is APP:
        seen["kind"] = seen.pop("type")
    return {"failure_reason": "", **seen, "tags": tags}


class Keeper(Thing):
    """Brings one thing to what is wanted.

    Args:
        module: the AnsibleAWSModule.
        kind: which kind.
        key: the members that say which one; a domain has none until it is found by its name.
        wanted: the members of the create request that were asked for, without key and tags.
        needed: options that a new one needs.
        create_only: members that a create request has and no description, such as the name of a domain.
        delete_with: further members of the delete request.
    """

    def __init__(
        self,
        module,
        kind: Kind,
        key: dict[str, str] | None,
        wanted: dict[str, Any],
        needed: tuple[str, ...] = (),
        create_only: dict[str, Any] | None = None,
        delete_with: dict[str, Any] | None = None,
    ) -> None:
        self.module, self.params, self.check = module, module.params, module.check_mode
        title = kind.title(key) if key else f"{kind.noun} {self.params['name']}"
        super().__init__(Clients(module)("sagemaker"), kind, key or {}, self.params["wait_timeout"], title)
        self.wanted, self.needed = wanted, needed
        self.create_only, self.delete_with = create_only or {}, delete_with or {}
        self.tags: dict[str, str] = {}
        self.before: dict[str, Any] = {}
        self.changes: dict[str, Any] = {}

    def find(self) -> None:
        """Find the ID of a domain by its name.

        Raises:
            LightsoutError: several have it.
        """
        name = self.params["name"]
        named = [one for one in DOMAIN.each(self.client) if one.get("DomainName") == name]
        # One that is on its way out does not count beside another.
        found = [one["DomainId"] for one in named if one["Status"] != "Deleting" or len(named) == 1]
        if len(found) > 1:
            raise LightsoutError(
                f"There are {len(found)} domains named {name}: {', '.join(sorted(found))}. Rename one."
            )
        if found:
            self.key = {"DomainId": found[0]}

    def seen(self) -> dict[str, Any]:
        """It as it was seen last."""
        return read(self.kind, self.raw, self.tags)

    def ensure(self) -> dict[str, Any]:
        """Do what is to be done; returns the module's result."""
        if self.kind is DOMAIN:
            self.find()
        absent = self.params["state"] == "absent"
        self.look()
        previous = self.status
        if previous == "Deleting" and (not absent or self.params["wait"]):
            if self.check:
                self.raw = None
            else:
                self.wait_gone()
        elif self.raw and previous != "Deleting":
            self.look_whose()
        self.before = self.seen()
        if absent:
            self.ensure_absent()
        elif self.raw:
            self.ensure_existing()
        else:
            self.ensure_new()
        return {
            "changed": bool(self.changes),
            **({"retained_efs": self.retained()} if self.kind is DOMAIN else {}),
            self.kind.word: self.seen(),
            "previous_status": previous,
            "changes": self.changes,
            "diff": {"before": self.before, "after": self.after()},
        }

    def retained(self) -> str:
        """The file system of a domain that was deleted without it."""
        deleted = self.changes.get(self.kind.word) == "delete"
        keep = deleted and self.params["retain_efs"]
        return (keep and self.before.get("home_efs_file_system_id")) or ""

    def look_whose(self) -> None:
        """Read its tags.

        Raises:
            LightsoutError: it is not ours.
        """
        self.tags = sagemaker.read_tags(self.client, self.raw[f"{self.kind.prefix}Arn"])
        sagemaker.refuse_foreign(self.what, self.tags, self.params["tags"])

    def after(self) -> dict[str, Any]:
        """What the diff shows on its right side."""
        if not self.check or not self.changes:
            return self.seen()
        if self.changes.get(self.kind.word) == "delete":
            return {}
        planned = merged(self.raw or {**self.key, **self.create_only}, self.wanted)
        tags = sagemaker.tags_after(self.tags, self.params["tags"], self.params["purge_tags"])
        return {**self.before, **read(self.kind, planned, tags)}

    # -- absent -----------------------------------------------------------------------------------------------------
    def ensure_absent(self) -> None:
        """Delete it, and what is in it when that is allowed.

        Raises:
            LightsoutError: there is something in it.
        """
        if not self.raw or self.status == "Deleting":
            return
        found = inside(self.client, self.kind, self.key)
        if found and not self.params["force"]:
            things = ", ".join(kind.title(key) for kind, key in found)
            raise LightsoutError(
                f"The {self.what} is not empty, and nothing was deleted: {things}. Delete that first, "
                "or give force: true, which deletes it, with the files on the spaces' volumes."
            )
        self.changes[self.kind.word] = "delete"
        if found:
            self.changes["inside"] = [kind.title(key) for kind, key in found]
        if self.check:
            return
        empty(self.client, found, self.timeout)
        if not self.delete(**self.delete_with):
            del self.changes[self.kind.word]  # somebody else was first
        if self.params["wait"]:
            self.wait_gone()
        else:
            self.look()

    # -- present ----------------------------------------------------------------------------------------------------
    def ensure_new(self) -> None:
        """Make one.

        Raises:
            LightsoutError: something needed is missing, or it failed.
        """
        if self.kind is DOMAIN:
            self.key = {}  # the ID of one that is gone is not the new one's
        missing = [
            f"There is no {self.what} yet. {option} is missing: a new one needs it."
            for option in self.needed
            if not self.params[option]
        ]
        if missing:
            raise LightsoutError(numbered(missing))
        self.changes[self.kind.word] = "create"
        if self.check:
            return
        tags = {"Tags": tags_as_list(self.params["tags"])} if self.params["tags"] else {}
        request = {**self.key, **self.create_only, **self.wanted, **tags}
        try:
            answer = sagemaker.patiently(self.kind.call(self.client, "create"), **request)
        except Exception as error:
            # Another run was first; what it made is as good as ours when it is ours.
            if not sagemaker.is_taken(error):
                raise
            if self.kind is DOMAIN:
                self.find()
            if not self.look():
                raise
            del self.changes[self.kind.word]
            self.look_whose()
            self.ensure_existing()
            return
        if self.kind is DOMAIN:
            self.key = {"DomainId": answer["DomainArn"].rpartition("/")[2]}
        self.tags = self.params["tags"] or {}
        self.arrive("its creation")

    def ensure_existing(self) -> None:
        """Bring what is there to what is wanted.

        Raises:
            LightsoutError: it cannot be brought there.
        """
        passing = self.status not in SETTLED
        found = list(differences(self.raw, self.wanted))
        if passing and not self.check and (found or self.params["wait"]):
            self.wait(*SETTLED)
            found = list(differences(self.raw, self.wanted))
        if self.status in ("Failed", "Delete_Failed"):
            self.replace_failed()
            return
        self.refuse_impossible(found)
        for path, have, want in found:
            self.changes[".".join(word for part in path[-2:] for word in sagemaker.plain({part: 0}))] = [have, want]
        tags = sagemaker.tags_after(self.tags, self.params["tags"], self.params["purge_tags"])
        if tags != self.tags:
            self.changes["tags"] = [self.tags, tags]
        if self.check:
            return
        arn = self.raw[f"{self.kind.prefix}Arn"]
        sagemaker.write_tags(self.client, arn, self.tags, self.params["tags"], self.params["purge_tags"])
        self.tags = tags
        if found:
            self.update({path[0] for path, *_ in found})
        elif self.status == "Update_Failed":
            self.module.warn(f"The last change of the {self.what} failed: {self.reason()}.")

    def replace_failed(self) -> None:
        """Make a failed app anew: there is nothing in it. Anything else may hold something.

        Raises:
            LightsoutError: it is not an app.
        """
        if self.kind is not APP:
            raise LightsoutError(
                f"The {self.what} is {self.status}: {self.reason()}. Put right what it says, delete it with state "
                "absent, and make it again."
            )
        self.module.warn(f"The {self.what} had failed and is made anew: {self.reason()}.")
        if not self.check:
            self.delete()
            self.wait_gone()
        self.ensure_new()

    def refuse_impossible(self, found: list[tuple[tuple[str, ...], Any, Any]]) -> None:
        """Say what cannot be changed.

        Raises:
            LightsoutError: there is such a thing.
        """
        fixed = [
            f"{'.'.join(path)} is {have or 'not set'} and cannot become {want}: that needs a new one. Delete this "
            f"{self.what} (state absent) and make it again, or leave the option out."
            for path, have, want in found
            if self.kind is APP or path[0] in self.kind.fixed or path[1:] == ("AppType",)
        ]
        fixed += [
            f"volume_size is {have} GiB and cannot shrink to {want}: give {have} or more."
            for path, have, want in found
            if path[-1] == "EbsVolumeSizeInGb" and (have or 0) > want
        ]
        if fixed:
            raise LightsoutError(numbered(fixed))
        apps = inside(self.client, SPACE, self.key) if found and self.kind is SPACE else []
        if apps:
            raise LightsoutError(
                f"The {self.what} can change only while nothing runs in it, and {APP.title(apps[0][1])} does: delete "
                "the app first (sagemaker_app with state absent; the files stay)."
            )

    def update(self, members: set[str]) -> None:
        """Change some of its members. Whole ones are sent, so that nothing that is set beside them is lost."""
        request = {name: value for name, value in merged(self.raw, self.wanted).items() if name in members}
        self.kind.call(self.client, "update")(**self.key, **request)
        self.arrive("the change")

    def arrive(self, doing: str) -> None:
        """Wait until it is there, unless nobody wants to wait.

        Raises:
            LightsoutError: it failed.
        """
        if not self.params["wait"]:
            self.look()
            return
        self.wait(*SETTLED)
        if self.status != "InService":
            raise LightsoutError(
                f"The {self.what} is {self.status} after {doing}: {self.reason()}. Put right what it says and run this "
                "again."
            )


def run(module, kind: Kind, problems_found: list[str], key: dict[str, str] | None, wanted, **more: Any) -> None:
    """A module's whole work, once its options are read."""
    if problems_found:
        module.fail_json(msg=numbered(problems_found))
    keeper = Keeper(module, kind, key, wanted, **more)
    sagemaker.finish(module, f"bring {keeper.what} to its state", keeper.ensure)
