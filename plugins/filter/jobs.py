# Copyright: The Lightsout authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Jobs as their owner sees them: one on several machines is one job."""

from __future__ import annotations

from typing import Any

from ansible_collections.lightsout.aws.plugins.filter.table import table

#: States of a job that has not ended, the one that says most first.
ALIVE = ("running", "queued", "uploading")


def one_job(views: list[dict[str, Any]]) -> dict[str, Any]:
    """One job from what each of its machines says of it.

    While one machine is at work, the job is. Afterwards the first machine that did not succeed says how it ended: what
    befell the others follows from that.

    Args:
        views: of the same job, one from each machine that answered, each with the machine's name as ``machine``.

    Returns:
        the view of the first machine, with the state of all, their names as ``machine``, and as ``reason`` what is
        amiss on which of them.
    """
    if (len(views) == 1 and views[0].get("nodes", 1) == 1) or any(view["state"] == "new" for view in views):
        return views[0]
    views = sorted(views, key=lambda view: view["node"])
    alive = [view for view in views if view["state"] in ALIVE]
    fallen = sorted(
        (view for view in views if view["state"] not in (*ALIVE, "succeeded")), key=lambda view: view["ended"] or ""
    )
    speaker = next(iter(fallen), views[0])
    if alive:
        speaker = min(alive, key=lambda view: ALIVE.index(view["state"]))
    reasons = [f"{view['machine']}: {told_by(view)}" for view in fallen[:1]]
    if len(views) < views[0]["nodes"]:
        reasons.append(f"only {len(views)} of {views[0]['nodes']} machines answer")
    how = ("state", "since", "exit_code", "signal")
    return {
        **views[0],
        **{key: speaker[key] for key in how},
        "machine": ", ".join(view["machine"] for view in views),
        "cpu_percent": added(views, "cpu_percent"),
        "gpu_memory": added(views, "gpu_memory"),
        "reason": "; ".join(reasons),
    }


def told_by(view: dict[str, Any]) -> str:
    """How a job ended on one machine, in a few words."""
    code = "" if view["exit_code"] is None else f" with exit code {view['exit_code']}"
    return view["reason"] or f"{view['state']}{code}"


def added(views: list[dict[str, Any]], key: str) -> int | None:
    """The sum of a figure that some of the views have."""
    figures = [view[key] for view in views if view.get(key) is not None]
    return sum(figures) if figures else None


def all_jobs(views: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Every job once, from what all machines list."""
    found: dict[tuple, list[dict[str, Any]]] = {}
    for view in views:
        # A run on several machines has a name that they share; on one it is nobody else's.
        run = view["rendezvous"] if view["nodes"] > 1 else view["machine"]
        found.setdefault((view["name"], str(run)), []).append(view)
    return [one_job(found[key]) for key in sorted(found)]


def jobs_table(views: list[dict[str, Any]]) -> list[str]:
    """The jobs that all machines list, as lines of text."""
    jobs = all_jobs(views)
    if not jobs:
        return ["No job has been trained here yet."]
    rows = []
    for job in jobs:
        silent = job["state"] in ("lost", "cancelled", "interrupted", "queued") or not job["last_line"]
        silent = silent or (job["nodes"] > 1 and job["reason"])
        cpu, memory = job.get("cpu_percent"), job.get("gpu_memory")
        rows.append(
            {
                **job,
                "since": (job["since"] or "").replace("T", " ").rstrip("Z")[:16],
                "cpu": None if cpu is None else f"{cpu} %",
                "memory": None if memory is None else f"{memory} MiB",
                "last": (job["reason"] if silent else job["last_line"])[:80],
            }
        )
    columns = {"JOB": "name", "STATE": "state", "SINCE (UTC)": "since", "RAN": "ran", "EXIT": "exit_code", "CPU": "cpu"}
    if any(row["memory"] for row in rows):
        columns["GPU MEMORY"] = "memory"
    if len({view["machine"] for view in views}) > 1:
        columns["MACHINE"] = "machine"
    return table(rows, {**columns, "LAST LINE": "last"})


class FilterModule:
    """The filters of this file."""

    def filters(self) -> dict[str, Any]:
        """Name and function of each."""
        return {"one_job": one_job, "jobs_table": jobs_table}
