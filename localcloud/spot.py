"""Interruptions of spot machines: who can be interrupted, how, and what the machine is told before.

https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/spot-instance-termination-notices.html
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from localcloud.settings import CloudError

#: Seconds from EC2's notice to the interruption.
NOTICE = 120

#: A notice can be as long as a day; what is longer is a slip.
LONGEST_NOTICE = 86400

#: What the instance says about its end, for each behavior.
REASONS = {
    "terminate": ("Server.SpotInstanceTermination", "Spot instance termination"),
    "stop": ("Server.SpotInstanceShutdown", "Spot instance shutdown"),
}


class Refused(CloudError):
    """This instance cannot be interrupted; the text says why."""


@dataclass
class Interruption:
    """What will happen to a machine, or has happened.

    Attributes:
        action: ``terminate`` or ``stop``, as the machine was launched.
        noticed: since when its metadata tells.
        at: when it comes; a whole second, as the notice says it.
        done: it has come.
    """

    action: str
    noticed: datetime
    at: datetime
    done: bool = False

    def due(self) -> bool:
        """Whether its time has come, and nobody has acted yet."""
        return not self.done and datetime.now(UTC) >= self.at

    @property
    def reason(self) -> tuple[str, str]:
        """Message and code of the instance's StateReason."""
        code, words = REASONS[self.action]
        return f"{code}: {words}", code


def stamp(time: datetime) -> str:
    """A time as the metadata service writes it."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ")


def seconds(text: Any) -> int:
    """The length of a notice.

    Raises:
        ValueError: it is none.
    """
    if str(text).isdecimal() and int(text) <= LONGEST_NOTICE:
        return int(text)
    raise ValueError(f"'{text}' is no notice: give whole seconds from 0 to {LONGEST_NOTICE} (EC2 gives {NOTICE})")


def interruption_of(instance: Any) -> Interruption | None:
    """What was ordered for an instance and is not forgotten."""
    return getattr(instance, "interruption", None)


def order(instance: Any, notice: int) -> Interruption:
    """Give notice to a machine.

    Args:
        instance: moto's instance.
        notice: seconds until it is interrupted.

    Raises:
        Refused: EC2 would not interrupt it, or no container can do what it asks for then.
    """
    if instance.lifecycle != "spot":
        raise Refused(f"{instance.id} is not a spot instance: only those are interrupted")
    if instance.state != "running":
        raise Refused(f"{instance.id} is {instance.state}: only a running instance can be interrupted")
    if ordered := interruption_of(instance):
        raise Refused(f"{instance.id} has its notice already: {ordered.action} at {stamp(ordered.at)}")
    action = getattr(instance, "interruption_behavior", "terminate")
    if action not in REASONS:
        raise Refused(f"{instance.id} asks to {action} when it is interrupted, which a container cannot do")
    now = datetime.now(UTC)
    # Up to the next second: nothing happens before the time that the notice names.
    at = (now + timedelta(seconds=notice, microseconds=999_999)).replace(microsecond=0)
    instance.interruption = Interruption(action, now, at)
    return instance.interruption


def forget(instance: Any) -> None:
    """A machine that was stopped or ended by somebody else, or runs anew, is not to be interrupted any more."""
    instance.interruption = None


def metadata(instance: Any) -> dict[str, Any]:
    """What the machine's metadata tells of it; nothing without a notice."""
    ordered = interruption_of(instance)
    if not ordered:
        return {}
    notice = {"instance-action": json.dumps({"action": ordered.action, "time": stamp(ordered.at)})}
    if ordered.action == "terminate":
        notice["termination-time"] = stamp(ordered.at)
    rebalance = json.dumps({"noticeTime": stamp(ordered.noticed)})
    return {"spot": notice, "events": {"recommendations": {"rebalance": rebalance}}}


def request_status(instance: Any) -> tuple[str, str]:
    """Code and message of the status that a machine's spot request has."""
    ordered = interruption_of(instance)
    verb = {"stopped": "stopped", "terminated": "terminated"}.get(instance.state)
    if verb and ordered and ordered.done:
        return f"instance-{verb}-no-capacity", f"Your Spot Instance was {verb} because there was no capacity left."
    if verb:
        return f"instance-{verb}-by-user", f"The Spot Instance was {verb} by its user."
    if ordered:
        noun = {"terminate": "termination", "stop": "stop"}[ordered.action]
        return f"marked-for-{noun}", f"The Spot Instance is marked for {noun}."
    return "fulfilled", "Your Spot request is fulfilled."
