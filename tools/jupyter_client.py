"""Uses a Jupyter server from outside, as a browser does: log in with the password, run a cell. For demo and tests."""

from __future__ import annotations

import json
import ssl
import tempfile
import uuid
from pathlib import Path

import requests
import websocket


class LoginRefused(Exception):
    """The server did not take the password."""


class CellFailed(Exception):
    """The code raised an exception; the text names it."""


class JupyterClient:
    """A session with one server.

    Args:
        url: ``https://address:port``, or ``http://…``, without a path.
        certificate: for HTTPS, the PEM text that the server's certificate must be, or be signed by.
    """

    def __init__(self, url: str, certificate: str = "") -> None:
        self._url = url.rstrip("/")
        self._session = requests.Session()
        # Proxies and a CA bundle of the environment are for the internet, not for a machine whose certificate we hold.
        self._session.trust_env = False
        with tempfile.NamedTemporaryFile("w", suffix=".pem", delete=False) as file:
            file.write(certificate)
        self._certificate = Path(file.name)
        self._session.verify = file.name

    def __enter__(self) -> JupyterClient:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Forget the session."""
        self._session.close()
        self._certificate.unlink(missing_ok=True)

    def login(self, password: str) -> None:
        """Log in by the form.

        Raises:
            LoginRefused: the password is wrong.
            requests.exceptions.SSLError: the certificate is another one, or for another address.
        """
        self._session.get(f"{self._url}/login", timeout=30).raise_for_status()
        form = {"password": password, "_xsrf": self._session.cookies["_xsrf"]}
        answer = self._session.post(f"{self._url}/login", data=form, allow_redirects=False, timeout=30)
        if answer.status_code != 302:
            raise LoginRefused(f"{self._url} answered {answer.status_code}")

    def follow(self, link: str) -> None:
        """Begin a session by a link that has a token in it.

        Raises:
            LoginRefused: the link is too old, or was never good.
        """
        answer = self._session.get(link, timeout=30)
        if answer.status_code != 200:
            raise LoginRefused(f"{self._url} answered {answer.status_code}")

    def run_cell(self, code: str, timeout: float = 60, keep: bool = False) -> str:
        """Start a kernel, run ``code`` in it, end the kernel unless it is to ``keep``; what it printed.

        Raises:
            CellFailed: the code raised an exception.
        """
        headers = {"X-XSRFToken": self._session.cookies["_xsrf"]}
        kernels = f"{self._url}/api/kernels"
        started = self._session.post(kernels, headers=headers, json={"name": "python3"}, timeout=timeout)
        started.raise_for_status()
        kernel = started.json()["id"]
        try:
            return self._execute(kernel, code, timeout)
        finally:
            if not keep:
                self._session.delete(f"{kernels}/{kernel}", headers=headers, timeout=timeout)

    def _execute(self, kernel: str, code: str, timeout: float) -> str:
        session = uuid.uuid4().hex
        address = f"ws{self._url.removeprefix('http')}/api/kernels/{kernel}/channels?session_id={session}"
        cookies = "; ".join(f"{cookie.name}={cookie.value}" for cookie in self._session.cookies)
        channel = websocket.create_connection(
            address,
            timeout=timeout,
            cookie=cookies,
            origin=self._url,
            http_no_proxy=["*"],
            sslopt={"ca_certs": str(self._certificate), "cert_reqs": ssl.CERT_REQUIRED},
        )
        message = uuid.uuid4().hex
        header = {
            "msg_id": message,
            "msg_type": "execute_request",
            "username": "",
            "session": session,
            "version": "5.3",
        }
        content = {"code": code, "silent": False, "store_history": False, "allow_stdin": False}
        request = {"header": header, "parent_header": {}, "metadata": {}, "content": content, "channel": "shell"}
        printed = []
        try:
            channel.send(json.dumps(request))
            while True:
                heard = json.loads(channel.recv())
                if heard["parent_header"].get("msg_id") != message:
                    continue
                match heard["msg_type"]:
                    case "stream":
                        printed.append(heard["content"]["text"])
                    case "error":
                        raise CellFailed(f"{heard['content']['ename']}: {heard['content']['evalue']}")
                    case "status" if heard["content"]["execution_state"] == "idle":
                        return "".join(printed)
        finally:
            channel.close()
