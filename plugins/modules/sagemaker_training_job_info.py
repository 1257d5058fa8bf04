#!/usr/bin/python
# Copyright: The Lightsout authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
---
module: sagemaker_training_job_info
version_added: 0.1.0
short_description: The training jobs of SageMaker that there are, and what they last said
description:
  - Finds one training job by its name, or those that match, the newest first, with their tags.
  - Changes nothing.
options:
  name:
    description:
      - One job's name. When there is none, the list is empty.
    type: str
  filters:
    description:
      - What they shall match, all of it. Without O(name) and O(filters), every job of the region is found.
    type: dict
    suboptions:
      name_contains:
        description: A part of the name.
        type: str
      status:
        description: The state.
        type: str
        choices: [InProgress, Completed, Failed, Stopping, Stopped, Deleting]
      tags:
        description: Tags that it has.
        type: dict
  limit:
    description:
      - At most so many jobs are looked at, the newest. SageMaker keeps jobs for ever.
    type: int
    default: 100
  logs:
    description:
      - Whether to read the end of each machine's log as well.
    type: bool
    default: false
  log_lines:
    description:
      - How many lines of each log, at most 10000.
    type: int
    default: 50
extends_documentation_fragment:
  - amazon.aws.common.modules
  - amazon.aws.region.modules
  - amazon.aws.boto3
attributes:
  check_mode:
    support: full
    description: Changes nothing at all.
  diff_mode:
    support: none
    description: There is nothing to compare.
author:
  - The Lightsout authors (@lightsout)
"""

EXAMPLES = r"""
- name: What one job last said
  lightsout.aws.sagemaker_training_job_info:
    name: lightsout-rerank-20261123-1
    logs: true
    log_lines: 20

- name: All of one project that run
  lightsout.aws.sagemaker_training_job_info:
    filters:
      name_contains: lightsout-rerank-
      status: InProgress
      tags: {"lightsout:project": rerank}
"""

RETURN = r"""
training_jobs:
  description:
    - The jobs, each as M(lightsout.aws.sagemaker_training_job) returns it. With O(logs=true) each has C(logs), the last
      lines of each log by the log's name, which says the machine (C(algo-1-…)).
  returned: always
  type: list
  elements: dict
  sample:
    - name: lightsout-rerank-20261123-1
      status: Completed
      model_artifacts: s3://my-bucket/rerank/output/lightsout-rerank-20261123-1/output/model.tar.gz
      logs: {algo-1-1763917200: [epoch 3 of 3]}
"""

import functools
from typing import Any

from ansible_collections.amazon.aws.plugins.module_utils.modules import AnsibleAWSModule
from ansible_collections.lightsout.aws.plugins.module_utils import sagemaker, training_jobs
from ansible_collections.lightsout.aws.plugins.module_utils.calls import Clients, at_once, pages
from ansible_collections.lightsout.aws.plugins.module_utils.sentences import numbered

STATES = ["InProgress", "Completed", "Failed", "Stopping", "Stopped", "Deleting"]

#: Our filter and the API's.
FILTERS = {"name_contains": "NameContains", "status": "StatusEquals"}


class Finder:
    """Finds training jobs.

    Args:
        module: the AnsibleAWSModule with our options.
    """

    def __init__(self, module) -> None:
        self.params = module.params
        clients = Clients(module)
        self.client = clients("sagemaker")
        self.journal = clients("logs") if module.params["logs"] else None

    def find(self) -> list[dict[str, Any]]:
        """What is asked for, several at a time."""
        filters = self.params["filters"] or {}
        names = [self.params["name"]] if self.params["name"] else self.matching(filters)
        seen = at_once({name: functools.partial(self.one, name) for name in names})
        for answer in seen.values():
            if isinstance(answer, Exception):
                raise answer
        tags = (filters.get("tags") or {}).items()
        return [job for job in seen.values() if job and tags <= job["tags"].items()]

    def matching(self, filters: dict[str, Any]) -> list[str]:
        """The names of the jobs that match, but for their tags, the newest first."""
        members = {FILTERS[key]: filters[key] for key in FILTERS if filters.get(key)}
        found = pages(
            self.client,
            "list_training_jobs",
            "TrainingJobSummaries",
            SortBy="CreationTime",
            SortOrder="Descending",
            PaginationConfig={"MaxItems": self.params["limit"]},
            **members,
        )
        return [job["TrainingJobName"] for job in found]

    def one(self, name: str) -> dict[str, Any]:
        """A job with its tags and logs; empty when there is none."""
        raw = training_jobs.look(self.client, name)
        if not raw:
            return {}
        job = training_jobs.read(raw, sagemaker.read_tags(self.client, raw["TrainingJobArn"]))
        return {**job, "logs": self.tails(name)} if self.journal else job

    def tails(self, name: str) -> dict[str, list[str]]:
        """The end of each of a job's logs; none before the job's machines have begun."""
        which = {"logGroupName": training_jobs.LOG_GROUP}
        prefix = f"{name}/"
        try:
            streams = pages(self.journal, "describe_log_streams", "logStreams", **which, logStreamNamePrefix=prefix)
        except Exception as error:
            if sagemaker.is_missing(error):  # no job of this region has said anything yet
                return {}
            raise
        return {stream["logStreamName"].removeprefix(prefix): self.tail(stream, which) for stream in streams}

    def tail(self, stream: dict[str, Any], which: dict[str, str]) -> list[str]:
        """The end of one log."""
        answer = self.journal.get_log_events(
            **which, logStreamName=stream["logStreamName"], limit=self.params["log_lines"], startFromHead=False
        )
        return [event["message"].rstrip("\n") for event in answer["events"]]


def main() -> None:
    """Run as an Ansible module."""
    module = AnsibleAWSModule(
        argument_spec={
            "name": {},
            "filters": {
                "type": "dict",
                "options": {"name_contains": {}, "status": {"choices": STATES}, "tags": {"type": "dict"}},
            },
            "limit": {"type": "int", "default": 100},
            "logs": {"type": "bool", "default": False},
            "log_lines": {"type": "int", "default": 50},
        },
        mutually_exclusive=[("name", "filters")],
        supports_check_mode=True,
    )
    wrong = sagemaker.name_problems(module.params, "name")
    if module.params["limit"] < 1:
        wrong.append(f"limit is {module.params['limit']}: give at least 1.")
    if not 1 <= module.params["log_lines"] <= 10000:
        wrong.append(f"log_lines is {module.params['log_lines']}: CloudWatch Logs gives 1 to 10000.")
    if wrong:
        module.fail_json(msg=numbered(wrong))
    sagemaker.finish(
        module,
        "find the training jobs",
        lambda: {"changed": False, "training_jobs": Finder(module).find()},
    )


if __name__ == "__main__":
    main()
