#!/usr/bin/python
# Copyright: The Lightsout authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Documentation of the action plugin of the same name, which does all the work on the controller."""

from __future__ import annotations

DOCUMENTATION = r"""
module: job
short_description: Talk to the job runner on a machine
version_added: 0.1.0
description:
  - Speaks with C(lightsout-job), the job runner that the role P(lightsout.aws.training#role) installs.
  - Runs on the controller and calls the runner over the connection that Ansible has anyway, one short command for each
    task; no module is copied to the machine.
  - Environment variables travel on standard input only, never in a command line.
author: The Lightsout authors
options:
  verb:
    description:
      - C(prepare) looks at the source on the controller, agrees with the machine on the job, and makes room for it.
      - C(start) hands an uploaded job to its launcher.
      - C(list) and C(log) read.
      - C(follow) prints what the job prints, as it comes, until the job ends.
      - C(cancel) asks the job to end (TERM), waits, and makes it end (KILL).
      - C(compare) compares the machine's results with a folder on the controller, by checksum.
    type: str
    required: true
    choices: [prepare, start, list, log, follow, cancel, compare]
  name:
    description: The job's name, or an earlier run's, for example C(rerank.1). Needed by all but C(list).
    type: str
  runner:
    description: Path of the runner on the machine.
    type: str
    default: /usr/local/bin/lightsout-job
  source:
    description: File or folder on the controller to upload; relative to the current folder. For C(prepare).
    type: str
    default: ""
  script:
    description: Script to run, within O(source), or a file on the controller without it. For C(prepare).
    type: str
    default: ""
  arguments:
    description: Arguments of O(script), a list or a line as a shell reads it. For C(prepare).
    type: raw
    default: []
  command:
    description: Shell command line to run instead of O(script). For C(prepare).
    type: str
    default: ""
  launcher:
    description: Who keeps the job running. For C(prepare).
    type: str
    choices: [systemd, screen]
    default: systemd
  directory:
    description: Working directory within the uploaded folder. For C(prepare).
    type: str
    default: .
  results:
    description: What C(compare) compares, relative to O(directory). For C(prepare).
    type: str
    default: results
  python:
    description: The job's Python on the machine. For C(prepare).
    type: str
    default: /usr/bin/python3
  conda_environment:
    description: Conda environment, a name or a path. For C(prepare).
    type: str
    default: ""
  environment:
    description: Environment variables of the job. For C(prepare).
    type: dict
    default: {}
  exclude:
    description: What is not uploaded, as rsync's patterns. For C(prepare).
    type: list
    elements: str
    default: []
  grace:
    description:
      - Seconds between TERM and KILL. Without it C(prepare) takes 30, and C(cancel) the job's own.
    type: int
  queue:
    description: Jobs of a queue run one after another, in the order of their start; empty for none. For C(prepare).
    type: str
    default: ""
  restarts:
    description: How often a command that fails is started again. For C(prepare).
    type: int
    default: 0
  restart_delay:
    description: Seconds before the first restart; twice as long before each further one. For C(prepare).
    type: int
    default: 10
  survive_reboot:
    description: Start the job again at boot when the machine was restarted. For C(prepare).
    type: bool
    default: false
  memory:
    description: The most memory that the job may take, as systemd's C(MemoryMax). For C(prepare).
    type: str
    default: ""
  cpus:
    description: The most cores that it may use, for example C(1.5). For C(prepare).
    type: str
    default: ""
  gpu:
    description: Refuse the job on a machine where no NVIDIA GPU answers. For C(prepare).
    type: bool
    default: false
  then:
    description: What becomes of the machine when its last job has ended. For C(prepare).
    type: str
    choices: [nothing, stop, terminate]
    default: nothing
  then_delay:
    description: Seconds until then. For C(prepare).
    type: int
    default: 60
  sync_to:
    description:
      - Where results go at an interval and at the end, C(s3://bucket/prefix), C(host:path) or C(/path). For C(prepare).
    type: str
    default: ""
  sync_interval:
    description: Seconds between two syncs. For C(prepare).
    type: int
    default: 300
  sync_endpoint:
    description: Endpoint of an S3 that is not AWS's. For C(prepare).
    type: str
    default: ""
  sync_region:
    description: Region of the bucket. For C(prepare).
    type: str
    default: ""
  nodes:
    description: On how many machines the job runs, as one for C(torchrun). For C(prepare).
    type: int
    default: 1
  nodes_least:
    description: With how many of them it goes on when others are lost; without it, only with all. For C(prepare).
    type: int
  processes:
    description:
      - Processes on each machine. Without it, for several machines, as many as there are GPUs, or one. For C(prepare).
    type: int
  node:
    description: Which of the machines this one is, counted from 1. For C(prepare).
    type: int
    default: 1
  addresses:
    description: The machines' addresses among themselves, in their order. For C(prepare), when there are several.
    type: list
    elements: str
    default: []
  rendezvous_port:
    description: The port on the first machine at which they meet. For C(prepare).
    type: int
    default: 29400
  rendezvous_timeout:
    description: Seconds that a machine waits there for the others. For C(prepare).
    type: int
    default: 300
  rendezvous:
    description: A name of this run that all its machines share. For C(start).
    type: str
    default: ""
  resume:
    description: Go on from what is at O(sync_to), or from what the run before has left. For C(prepare).
    type: bool
    default: false
  rerun:
    description: Run a job again that has ended; the earlier run is kept. For C(prepare).
    type: bool
    default: false
  replace:
    description: Cancel a job of that name that runs with something else; what it has left is kept. For C(prepare).
    type: bool
    default: false
  version:
    description: SHA-256 that the runner must have. For C(prepare).
    type: str
    default: ""
  token:
    description: What C(prepare) has returned. For C(start).
    type: str
    default: ""
  all:
    description: Earlier runs, too. For C(list).
    type: bool
    default: false
  lines:
    description: How many lines of the log. For C(log) and C(follow).
    type: int
    default: 20
  progress:
    description: Only a line now and then instead of all. For C(follow).
    type: bool
    default: false
  must_succeed:
    description: Fail unless the job succeeds. For C(follow).
    type: bool
    default: false
  patience:
    description: Seconds that a machine may be out of reach before following is given up. For C(follow).
    type: int
    default: 300
  destination:
    description: Folder on the controller. For C(compare).
    type: str
    default: ""
attributes:
  check_mode:
    support: full
    description: C(prepare), C(start) and C(cancel) say what would be done.
"""

EXAMPLES = r"""
- name: See what runs there
  lightsout.aws.job:
    verb: list
  register: jobs

- name: Look over its shoulder until it ends
  lightsout.aws.job:
    verb: follow
    name: rerank
"""

RETURN = r"""
job:
  description: The job as it is now.
  returned: for verbs with a name
  type: dict
  sample: {name: rerank, state: running, exit_code: null, run: 1, last_line: "epoch 3 loss 0.41"}
jobs:
  description: All jobs. For C(list).
  returned: for C(list)
  type: list
  elements: dict
problems:
  description: What is wrong with the input, a sentence each. For C(prepare).
  returned: for C(prepare)
  type: list
  elements: str
action:
  description:
    - C(start) when the job has to be uploaded and started, C(none) when it has been, C(install) when the machine has no
      runner of that version, or not what the sync needs. For C(prepare).
  returned: for C(prepare)
  type: str
upload:
  description: What to upload (C(from), C(to), C(options) for rsync, C(files), C(size)). For C(prepare).
  returned: for C(prepare)
  type: dict
notices:
  description: What was found in the scripts and will be mended. For C(prepare).
  returned: for C(prepare)
  type: list
  elements: str
lines:
  description: The end of the log. For C(log) and C(follow).
  returned: for C(log) and C(follow)
  type: list
  elements: str
fetch:
  description: C(from), C(to), and the lists C(new), C(changed), C(newer_here), C(same) of paths. For C(compare).
  returned: for C(compare)
  type: dict
"""
