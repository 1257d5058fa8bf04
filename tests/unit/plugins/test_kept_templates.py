"""A template means the same, whether it is compiled by core, by us, or was compiled by an earlier process."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import pytest
from ansible.parsing.dataloader import DataLoader
from ansible.plugins.loader import init_plugin_loader
from ansible.template import Templar, trust_as_template
from ansible_collections.lightsout.aws.plugins.plugin_utils import kept_templates
from ansible_collections.lightsout.aws.plugins.plugin_utils.kept_templates import KeptEnvironment, kept

VARIABLES = {
    "name": "lab",
    "inner": "{{ name }}-{{ 1 + 1 }}",
    "things": [{"id": 1}, {"id": 2, "more": "{{ inner }}"}],
    "path": r"C:\new",
}
#: template -> options of its rendering.
TEMPLATES: dict[str, dict[str, Any]] = {
    "{{ inner }}": {},
    "{{ things | map(attribute='id') | list }}": {},
    "{{ things | selectattr('more', 'defined') | map(attribute='more') | first | upper }}": {},
    "a {{ path }} {{ 'x\\ty' }}": {},
    "b {{ path }} {{ 'x\\ty' }}": {"escape_backslashes": False},
    "{% for thing in things %}\n{{ thing.id }}\n{% endfor %}": {},
    "<< name >> {{ name }}": {"overrides": {"variable_start_string": "<<", "variable_end_string": ">>"}},
    "{{ lookup('ansible.builtin.vars', 'name') }}": {},
    "{{ '{{ name }}' }}": {},
    "{{ [name, omit] }}": {},
}
CONDITIONS = ["name == 'lab'", "things | length > 5", "name is match('^l') and inner == 'lab-2'", "nothing is defined"]


@pytest.fixture(scope="module", autouse=True)
def plugins() -> None:
    """What Jinja has of Ansible."""
    with warnings.catch_warnings(action="ignore"):  # another test may have done it
        init_plugin_loader()


@pytest.fixture(autouse=True)
def shelf(tmp_path, monkeypatch) -> Path:
    """A place of its own; what is compiled for a test is forgotten with it."""
    file = tmp_path / "lightsout/templates"
    monkeypatch.setattr(kept_templates, "SHELF", file.parent)
    monkeypatch.setattr("ansible_collections.lightsout.aws.plugins.plugin_utils.kept_modules.SHELF", file.parent)
    monkeypatch.setattr(kept_templates, "shelf_file", lambda: file)
    forget()
    yield file
    forget()


def forget() -> None:
    """As a new process is."""
    KeptEnvironment._kept, KeptEnvironment._file, KeptEnvironment._news = {}, None, False


def rendered(ours: bool) -> list[Any]:
    """All of them."""

    def templar() -> Templar:
        new = Templar(loader=DataLoader(), variables={key: trusted(value) for key, value in VARIABLES.items()})
        return kept(new) if ours else new

    texts = [templar().template(trust_as_template(text), **options) for text, options in TEMPLATES.items()]
    return [*map(str, texts), *(templar().evaluate_conditional(trust_as_template(c)) for c in CONDITIONS)]


def trusted(value: Any) -> Any:
    """Templates in a variable are what they are in a file of ours."""
    if isinstance(value, dict):
        return {key: trusted(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [trusted(inner) for inner in value]
    return trust_as_template(value) if isinstance(value, str) else value


def test_all_is_as_core_renders_it_and_nothing_is_compiled_twice(shelf, monkeypatch) -> None:
    by_core = rendered(ours=False)
    assert rendered(ours=True) == by_core
    KeptEnvironment.keep()
    assert shelf.stat().st_mode & 0o777 == 0o600
    forget()

    def compiled(*_: Any) -> None:
        raise AssertionError("this was compiled before")

    monkeypatch.setattr("jinja2.Environment._generate", compiled)
    assert rendered(ours=True) == by_core
    before = shelf.stat().st_mtime_ns
    KeptEnvironment.keep()
    assert shelf.stat().st_mtime_ns == before  # no news


@pytest.mark.parametrize("broken", [b"", b"[", b"i\x01\x00\x00\x00", b"\xff" * 9])
def test_what_cannot_be_read_is_made_anew(shelf, broken) -> None:
    shelf.parent.mkdir()
    shelf.write_bytes(broken)
    assert rendered(ours=True) == rendered(ours=False)
    KeptEnvironment.keep()
    assert shelf.stat().st_size > 1000


def test_too_many_are_forgotten(shelf, monkeypatch) -> None:
    monkeypatch.setattr(kept_templates, "MOST", 3)
    rendered(ours=True)
    KeptEnvironment.keep()
    assert shelf.stat().st_size < 100


def test_a_template_that_cannot_be_compiled_says_so_each_time(shelf) -> None:
    for _ in range(2):
        with pytest.raises(Exception, match="Syntax error in template"):
            kept(Templar(loader=DataLoader(), variables={})).template(trust_as_template("{{ 1 + }}"))
