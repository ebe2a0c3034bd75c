"""Texts for hosts: templates from templates/, filled with values, and unchanged files from files/."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import jinja2

_REPO = Path(__file__).parent.parent.parent
_ENVIRONMENT = jinja2.Environment(
    loader=jinja2.FileSystemLoader(_REPO / "templates"),
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
    keep_trailing_newline=True,
    # Unit and configuration files, not HTML.
    autoescape=False,
)


def render(template: str, /, **values: object) -> str:
    """The text of templates/`template`, filled with `values`. Raises jinja2.UndefinedError when a value is missing."""
    return _ENVIRONMENT.get_template(template).render(**values)


@cache
def static(file: str) -> str:
    """The text of files/`file`."""
    return (_REPO / "files" / file).read_text(encoding="utf-8")
