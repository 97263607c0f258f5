"""The directive `mermaid`: a state diagram as a drawing. A forge draws the same block by itself."""

from __future__ import annotations

from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util import logging
from sphinx.util.docutils import SphinxDirective
from state_svg import drawing, edges

__all__ = ["setup"]

_log = logging.getLogger(__name__)


class Mermaid(SphinxDirective):
    """The directive."""

    has_content = True

    def run(self) -> list[nodes.Node]:
        """Return the drawing, and a warning where there is none."""
        try:
            svg = drawing(*edges(list(self.content)))
        except ValueError as error:
            _log.warning("mermaid: %s", error, location=self.get_location())
            return []
        return [nodes.raw("", f'<div class="states-frame" tabindex="0">{svg}</div>', format="html")]


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the directive."""
    app.add_directive("mermaid", Mermaid)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
