"""Jupyter from outside, as tests ask it: one call that logs in and runs a cell."""

from __future__ import annotations

from pathlib import Path

from tools.jupyter_client import CellFailed, JupyterClient, LoginRefused

__all__ = ["CellFailed", "JupyterClient", "LoginRefused", "run_cell"]


def run_cell(base_url: str, password: str, cafile: str, code: str) -> str:
    """What ``code`` prints in a fresh kernel of the server, trusting only the certificate in ``cafile``.

    Raises:
        LoginRefused: the password is wrong.
        CellFailed: the code raised an exception.
    """
    with JupyterClient(base_url, Path(cafile).read_text()) as jupyter:
        jupyter.login(password)
        return jupyter.run_cell(code)
