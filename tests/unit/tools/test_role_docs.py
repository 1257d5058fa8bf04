"""Variable tables of the READMEs."""

from __future__ import annotations

import pytest
import yaml

from tools import role_docs


@pytest.fixture
def role(tmp_path):
    (tmp_path / "meta").mkdir()
    options = {
        "r_size": {"description": "How big, C(1) | C(2).", "type": "int", "default": 5},
        "r_names": {"description": ["Who.", "All of them."], "type": "list", "elements": "str", "required": True},
        "r_kind": {"description": "Which.", "choices": ["a", "b"], "default": "a"},
        "r_empty": {"description": "Nothing.", "default": ""},
    }
    (tmp_path / "meta/argument_specs.yml").write_text(
        yaml.safe_dump({"argument_specs": {"main": {"options": options}}})
    )
    (tmp_path / "README.md").write_text(f"# r\n\n{role_docs.START}\nold\n{role_docs.END}\n\nThe end.\n")
    return tmp_path


def test_the_table_stands_between_the_marks_and_the_rest_stays(role):
    text = role_docs.rendered(role)
    assert text.startswith("# r\n") and text.endswith("\n\nThe end.\n") and "old" not in text
    assert "| `r_size` | int | `5` | How big, `1` \\| `2`. |" in text
    assert "| `r_names` | list of str | **required** | Who. All of them. |" in text
    assert "| `r_kind` | str: `a`, `b` | `a` | Which. |" in text
    assert '| `r_empty` | str | `""` | Nothing. |' in text


def test_a_readme_without_marks_is_an_error_and_not_overwritten(role):
    (role / "README.md").write_text("# r\n")
    with pytest.raises(ValueError, match="lacks the lines"):
        role_docs.rendered(role)
