# Copyright: The Lightsout authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The plan of ``machine_plan`` for people: what is there, what would be made or changed, and what it costs."""

from __future__ import annotations

from typing import Any

from ansible_collections.lightsout.aws.plugins.module_utils.prices import HOURS_PER_MONTH

#: What people are told of the rule by which a security group admits itself.
AMONG_THEMSELVES = "all ports between the machines"


def lines(look: Any) -> list[str]:
    """The plan in a few lines.

    Args:
        look: the MachinePlan.
    """
    plan, machine = look.plan, look.machine
    account = f" (account {plan['account']}, you are {plan['caller'].rsplit(':', 1)[-1]})" if plan["account"] else ""
    rows = [("Project", f"{look.project} in {look.region}{account}")]
    if machine:
        facts, image, now = plan["instance_type"], plan["image"], plan["machine"]
        has = ", ".join(
            text
            for text in (
                f"{facts['vcpus']} vCPU" if facts else "",
                f"{facts['memory_gib']:g} GiB memory" if facts else "",
                facts.get("gpu") or "",
                "spot" if machine["spot"] else "",
            )
            if text
        )
        kind = f"{machine['instance_type']}{f' ({has})' if has else ''}"
        if look.count == 1:
            rows.append(("Machine", f"{plan['machine_name']}: {kind}{state_of(now)}"))
        else:
            rows.append(("Machines", f"{look.count} of {kind}, {look.names[0]} to {look.names[-1]}"))
            rows += [("Machines", f"{m['name']}{state_of(m)}") for m in plan["machines"]]
            near = f"near each other in placement group {plan['placement_group'].get('name')}"
            rows.append(("Group", f"{near if plan['placement_group'] else 'not placed together'}; {AMONG_THEMSELVES}"))
        if image:
            rows.append(("Image", f"{image['title']}, {image['id']}, log in as {image['login_user']}"))
        rows.append(
            ("Disk", f"{machine['volume_size']} GiB gp3, encrypted{' (each machine)' if look.count > 1 else ''}")
        )
        rows.append(("Access", access_line(machine["ports"], plan["access_cidrs"])))
        rows.append(("Lease", f"{look.params['lease']} from creation" + (f", until {now['expires']}" if now else "")))
        rows += [("Budget", text) for text in budget_lines(look)]
        rows += [
            ("Price", text) for text in price_lines(plan["prices"], machine["instance_type"], look.region, look.count)
        ]
        rows += [("Credits", text) for text in credit_lines(plan["credits"])]
        if plan["quota"]:
            vcpus = facts.get("vcpus", 0) * look.count
            asked = f"; these machines have {vcpus}" if look.count > 1 and vcpus else ""
            rows.append(("Quota", f"{plan['quota']['family']} family: {quota_words(plan['quota'])}{asked}"))
        rows += [("Notice", text) for text in plan["notices"]]
        rows += [("To do", text) for text in todo(look.changes)] or [("To do", "nothing, all is as it should be")]
    said, before = [], ""
    for title, text in rows:
        said.append(f"{title if title != before else '':<9}{text}")
        before = title
    return said


def budget_lines(look: Any) -> list[str]:
    """What watches over the money."""
    if not look.budget:
        return []
    if look.budget["limit"] == 0:
        return ["none, as cost_guard_monthly_limit is 0: nobody is told before the bill comes"]
    now = look.plan["budget"]
    limit = look.budget["limit"] if look.budget["limit"] is not None else now.get("limit")
    counts = f"project {look.project}" if look.budget["count"] == "project" else "the whole account"
    told = look.budget["emails"] or sorted({one for alert in now.get("alerts", []) for one in alert["emails"]})
    spent = f", {now['spent']:.2f} spent so far" if now.get("spent") is not None else ""
    limit_text = "unknown" if limit is None else f"USD {limit:.2f} a month for {counts}{spent}"
    return [f"{limit_text}; alerts to {', '.join(told) or 'nobody'}"]


def state_of(machine: dict[str, Any]) -> str:
    """What follows the name of a machine that there is."""
    return f", {machine['state']}, {machine['public_ip'] or machine['private_ip']}" if machine else ""


def access_line(ports: list[int], cidrs: list[str]) -> str:
    """Who gets in where."""
    if not ports:
        return "no open port; through AWS Systems Manager, for those whom your account lets"
    return f"port{'s' if len(ports) > 1 else ''} {', '.join(map(str, ports))} from {', '.join(cidrs)}"


def price_lines(prices: dict[str, Any], instance_type: str, region: str, count: int = 1) -> list[str]:
    """The price in words; a price that nobody knows is said to be unknown."""
    if count == 1:
        stopped = f"stopped, it still costs USD {prices['stopped_month']:.2f} a month for its disk"
    else:
        stopped = f"stopped, they still cost USD {prices['stopped_month']:.2f} a month for their disks"
    elsewhere = "" if region == prices["region"] else f"; {region} differs"
    if prices["hour"] is None:
        return [
            f"unknown: {instance_type} ({prices['purchase']}) is not in our list; disk and address come to "
            f"USD {prices['disk_month']:.2f} a month and {prices['address_hour']:.3f} an hour",
            stopped,
        ]
    listed = f"list prices for {prices['region']}, {prices['as_of']}, no tax"
    if not prices["listed"]:
        listed += "; from our own table, not from AWS"
    source = "AWS's spot price now" if prices["purchase"] == "spot" else listed
    each = [
        f"{title} {hour:.4g}" if hour is not None else f"{title} unknown"
        for title, hour in (("on demand", prices["on_demand_hour"]), ("as a spot machine", prices["spot_hour"]))
    ]
    return [
        f"USD {prices['hour']:.4g} an hour, {prices['day']:.2f} a day, {prices['month']:.2f} a month"
        f"{f' for {count} machines' if count > 1 else ''} ({source}{elsewhere})",
        f"of an hour: a machine {', '.join(each)}; addresses {prices['address_hour']:.4g}, disks "
        f"{prices['disk_month'] / HOURS_PER_MONTH:.4g}",
        stopped,
    ]


def quota_words(quota: dict[str, Any]) -> str:
    """What the account may run of a family, on demand and as spot machines, which count apart."""
    if quota["on_demand"] is None and quota["spot"] is None:
        return "unknown (AWS did not tell)"

    def words(limit: int | None) -> str:
        return "unknown" if limit is None else f"{limit} vCPU"

    return f"{words(quota['on_demand'])} on demand, {words(quota['spot'])} spot"


def credit_lines(plan: dict[str, Any]) -> list[str]:
    """What AWS gives for free, where it says so."""
    if plan.get("left") is None:
        return []
    until = f", until {plan['until']}" if plan["until"] else ""
    return [f"USD {plan['left']:.2f} left of the {plan['plan'].lower()} plan{until}"]


def todo(changes: dict[str, Any]) -> list[str]:
    """What the next run of provision would do, a line each."""
    titles = {
        "budget": "budget",
        "key_file": "key file on this computer",
        "key_pair": "key pair",
        "security_group": "security group",
        "instance_profile": "role and instance profile",
        "placement_group": "placement group",
        "machine": "machine",
        "deadline": "deadline at which AWS stops it",
    }
    lines = []
    for key, title in titles.items():
        change = changes.get(key)
        if isinstance(change, str):
            lines.append(f"{change} the {title}")
        elif key == "security_group" and change:
            lines += [
                f"{verb} {rule if rule == AMONG_THEMSELVES else f'port {rule}'}"
                for verb in ("open", "close")
                for rule in change[verb]
            ]
        elif change:
            lines += becoming(change)
    for name, change in changes.get("machines", {}).items():
        lines += [f"{change} {name}"] if isinstance(change, str) else [f"{name}: {line}" for line in becoming(change)]
    return lines


def becoming(change: dict[str, Any]) -> list[str]:
    """A machine's changes, a line each."""
    return [f"{setting.replace('_', ' ')}: {told(old)} becomes {told(new)}" for setting, (old, new) in change.items()]


def told(value: Any) -> str:
    """A setting's value for people."""
    if isinstance(value, dict):
        return ", ".join(f"{key}={content}" for key, content in value.items())
    return "nothing" if value is None else str(value)
