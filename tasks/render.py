"""Fill a template of templates/ with values; a missing value is an error."""

from __future__ import annotations

from pathlib import Path

import jinja2

_ENVIRONMENT = jinja2.Environment(
    loader=jinja2.FileSystemLoader(Path(__file__).parent.parent / "templates"),
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
    keep_trailing_newline=True,
    # Unit and configuration files, not HTML.
    autoescape=False,
)


def render(template: str, /, **values: object) -> str:
    """The text of templates/`template` with `values`. Raises jinja2.UndefinedError when one is missing."""
    return _ENVIRONMENT.get_template(template).render(**values)
