"""Uses a scenario's Jupyter from outside: ``use.py MACHINE``, with what to do as JSON on its input.

``password``, ``refused`` (passwords that must not be let in), ``certificate`` (PEM) and ``cell`` (Python).

Prints what the cell printed. Ends with a sentence when a wrong password is let in.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from localcloud import podman
from tools.jupyter_client import JupyterClient, LoginRefused

question = json.load(sys.stdin)
address = podman.run("port", sys.argv[1], "8888/tcp").strip()
with JupyterClient(f"https://{address}", question["certificate"]) as jupyter:
    for wrong in (question["password"] + "x", question["password"][:-1], *question["refused"]):
        try:
            jupyter.login(wrong)
        except LoginRefused:
            continue
        sys.exit("a wrong password was let in")
    jupyter.login(question["password"])
    print(jupyter.run_cell(question["cell"]).strip())
