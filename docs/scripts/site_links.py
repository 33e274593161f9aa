"""Links of the documentation site to files outside docs/, such as README.md, become their paths.

The site has no page for them. A path that does not exist is a warning, which `--strict` refuses.
"""

import logging
import re
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
LINK = re.compile(r"\[([^\]]+)\]\(([^)\s:#]+)(#[^)\s]*)?\)")
LOG = logging.getLogger("mkdocs.hooks.site_links")


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """The Markdown of a page, without links that lead out of docs/."""
    here = ROOT / "docs" / Path(page.file.src_uri).parent

    def link(match: re.Match[str]) -> str:
        target = (here / match[2]).resolve()
        if target.is_relative_to(ROOT / "docs") and target.suffix == ".md":
            return match[0]
        if not target.exists():
            LOG.warning("%s links to %s, which is not there", page.file.src_uri, match[2])
        return match[1] if "`" in match[1] else f"`{target.relative_to(ROOT)}`"

    return LINK.sub(link, markdown)
