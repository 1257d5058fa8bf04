# Copyright: The Lightsout authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Templates that are compiled once and kept on the controller.

Ansible forks a process for each task and host, and each compiles every template and condition anew: half of what a
batch takes here. What is kept is the code that Jinja makes of them; rendering is core's.
"""

from __future__ import annotations

import contextlib
import hashlib
import marshal
from importlib.util import MAGIC_NUMBER
from pathlib import Path
from types import CodeType
from typing import Any, ClassVar

import jinja2
from ansible._internal._templating._jinja_bits import (
    _TEMPLATE_OVERRIDE_FIELD_NAMES,
    AnsibleEnvironment,
    _TemplateCompileContext,
)
from ansible.release import __version__
from ansible.template import Templar
from ansible_collections.lightsout.aws.plugins.plugin_utils.kept_modules import SHELF, put
from jinja2.environment import TemplateExpression

#: More than these are those of somebody's experiments: they are forgotten together.
MOST = 5000


def shelf_file() -> Path:
    """Where code is kept that this Python, Jinja and Ansible have made, with our filters and tests as they are."""
    plugins = Path(__file__).resolve().parents[1]
    ours = [
        (path.name, path.stat().st_mtime_ns) for kind in ("filter", "test") for path in plugins.glob(f"{kind}/*.py")
    ]
    made_by = (MAGIC_NUMBER, jinja2.__version__, __version__, sorted(ours))
    return SHELF / f"templates-{hashlib.sha256(repr(made_by).encode()).hexdigest()[:24]}"


class KeptEnvironment(AnsibleEnvironment):
    """Core's environment, with a memory for what it has compiled."""

    _kept: ClassVar[dict[tuple, CodeType]] = {}
    _file: ClassVar[Path | None] = None
    _news: ClassVar[bool] = False
    _plugins: ClassVar[tuple[Any, Any] | None] = None
    _expression: str | None = None

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        # Filters and tests, once found, are the same for all environments.
        KeptEnvironment._plugins = KeptEnvironment._plugins or (self.filters, self.tests)
        self.filters, self.tests = KeptEnvironment._plugins

    @classmethod
    def remember(cls) -> None:
        """Read what earlier processes have compiled."""
        if cls._file is None:
            cls._file = shelf_file()
            with contextlib.suppress(OSError, ValueError, EOFError, TypeError):
                cls._kept = dict(marshal.loads(cls._file.read_bytes()))  # noqa: S302 - written by ourselves, for us alone

    @classmethod
    def keep(cls) -> None:
        """Write down what this process has compiled for those that come."""
        if cls._news and cls._file:
            put(cls._file, marshal.dumps(cls._kept if len(cls._kept) <= MOST else {}))
            cls._news = False

    def compile(self, source: Any, name=None, filename=None, raw=False, defer_init=False) -> Any:
        """As Jinja, unless it was done before."""
        text = source if isinstance(source, str) else self._expression
        if text is None or name or filename or raw or defer_init:
            return super().compile(source, name, filename, raw, defer_init)
        key = self._key(text, expression=text is not source)
        if key not in self._kept:
            self._kept[key] = super().compile(source)
            KeptEnvironment._news = True
        return self._kept[key]

    def compile_expression(self, source: str, undefined_to_none: bool = True) -> TemplateExpression:
        """As Jinja, which parses it first and compiles what it has parsed."""
        code = self._kept.get(self._key(source, expression=True))
        if code:
            template = self.template_class.from_code(self, code, self.make_globals(None))
            return TemplateExpression(template, undefined_to_none)
        self._expression = source
        try:
            return super().compile_expression(source, undefined_to_none)
        finally:
            self._expression = None

    def _key(self, source: str, *, expression: bool) -> tuple:
        """All on which the code depends."""
        context = _TemplateCompileContext.current(optional=True)
        syntax = tuple(getattr(self, field) for field in _TEMPLATE_OVERRIDE_FIELD_NAMES)
        return str.__str__(source), expression, bool(context and context.escape_backslashes), syntax


def kept(templar: Templar, searchpath: list[str] | None = None) -> Templar:
    """The templar, which from here on compiles nothing that was compiled before.

    Args:
        templar: one that has not rendered anything.
        searchpath: where it looks for templates that others include or extend.
    """
    KeptEnvironment.remember()
    environment = KeptEnvironment(ansible_basedir=templar._engine.basedir)
    if searchpath:
        environment.loader.searchpath = searchpath
    templar._engine._environment = environment
    return templar
