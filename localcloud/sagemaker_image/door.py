"""Who may use this Jupyter: a browser with a presigned link, and whoever is on the machine itself.

Jupyter serves plain HTTP to browsers, which the presigned link lets in for a session, and, as SageMaker's does, HTTPS
without a password on https://localhost:8443, for programs on the machine.
"""

from __future__ import annotations

import base64
import hmac
import json
import ssl
import time
from pathlib import Path
from typing import Any

from jupyter_server.auth.identity import IdentityProvider, User
from tornado import web

COOKIE = "authToken"
KEY = Path("/etc/sagemaker/key")
CERTIFICATE, LOCAL_PORT = "/opt/sagemaker/localhost.pem", 8443


def opened(token: str) -> dict[str, Any]:
    """What a token says; nothing where it is forged, of another machine, or too old."""
    said, _, seal = token.partition(".")
    if not hmac.compare_digest(seal, hmac.digest(KEY.read_bytes(), said.encode(), "sha256").hex()):
        return {}
    content = json.loads(base64.urlsafe_b64decode(said))
    return content if time.time() < content["until"] else {}


def sealed(content: dict[str, Any]) -> str:
    """The token that says this."""
    said = base64.urlsafe_b64encode(json.dumps(content).encode()).decode()
    return f"{said}.{hmac.digest(KEY.read_bytes(), said.encode(), 'sha256').hex()}"


def is_local(handler: web.RequestHandler) -> bool:
    """Whether a request came in by the door for the machine's own programs."""
    return handler.request.protocol == "https"


class Door(IdentityProvider):
    """Lets in by link, by the session that the link began, and from the machine itself."""

    def get_user(self, handler: web.RequestHandler) -> User:
        """The one user that there is; everybody else is refused."""
        link = opened(handler.get_query_argument(COOKIE, ""))
        if "session" in link:
            session = {"until": min(time.time() + link["session"], time.time() + 43200)}
            handler.set_cookie(COOKIE, sealed(session), httponly=True, expires=session["until"], samesite="Lax")
            # Without the token: what stands in the address bar gets copied.
            handler.redirect("/lab" if handler.get_query_argument("view", "") == "lab" else "/tree")
        elif not (is_local(handler) or opened(handler.get_cookie(COOKIE, ""))):
            raise web.HTTPError(403, reason="Forbidden")
        return User("ec2-user")

    def is_token_authenticated(self, handler: web.RequestHandler) -> bool:
        """Programs on the machine need no XSRF cookie."""
        return is_local(handler)


def _load_jupyter_server_extension(server: Any) -> None:
    """The second listener; Jupyter calls this when it starts."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(CERTIFICATE)
    server.web_app.listen(LOCAL_PORT, "127.0.0.1", ssl_options=context)
