"""A hook of mkdocs: pages of the site that are kept elsewhere than in docs/, and their links.

Documents link to each other by their paths in the repository, so that a reader there can follow
them. On the site the same link leads to the page. What is in the repository and not on the site
(a script, a file of tests) becomes its text, without a link: the site may stand alone. A link to
nothing is a warning, and with it an error of the build.
"""

from __future__ import annotations

import logging
import posixpath
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parent.parent
OUTSIDE = (
    "protocol/SPEC.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md", "clients/*/README.md",
)  # fmt: skip
"""Pages that are not in docs/, as patterns from the repository's root."""

HOME = {"README.md": "docs/index.md"}
"""What stands in for a page on the site."""

_FENCED = re.compile(r"(^(?P<fence>```+|~~~+).*?^(?P=fence)\s*?$)", re.MULTILINE | re.DOTALL)
_NAMED = re.compile(r"^(?P<fence>```+)(?P<language>\w+) (?P<name>[^=\n]+)$", re.MULTILINE)
"""A fence with words behind its language, which name what is in it."""

_LINK = re.compile(r"(?P<image>!?)\[(?P<text>(?:[^\[\]]|\[[^\[\]]*\])*)\]\((?P<target>[^)\s]+)\)")

log = logging.getLogger("mkdocs.hooks.site_pages")


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """The navigation, with pages in place of patterns; their titles are their own."""
    config.nav = listed(config.nav or [])
    return config


def listed(nav: list[Any]) -> list[Any]:
    """A navigation with its patterns replaced by paths."""
    found: list[Any] = []
    for entry in nav:
        if isinstance(entry, dict):
            found.append(
                {
                    title: listed(below) if isinstance(below, list) else below
                    for title, below in entry.items()
                }
            )
        elif "*" in entry:
            found += [path.relative_to(ROOT).as_posix() for path in sorted(ROOT.glob(entry))]
        else:
            found.append(entry)
    return found


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages from outside, under their paths in the repository."""
    for pattern in OUTSIDE:
        for path in sorted(ROOT.glob(pattern)):
            name = path.relative_to(ROOT).as_posix()
            files.append(File.generated(config, name, abs_src_path=str(path)))
    return files


def on_page_markdown(markdown: str, *, page: Page, config: MkDocsConfig, files: Files) -> str:
    """The page's text with links as the site has them."""
    del config
    name = page.file.src_uri

    def found(target: str) -> bool:
        return files.get_file_from_path(target) is not None

    markdown = entitle(markdown)
    return relink(markdown, name, found, lambda wrong: log.warning("%s: no %s", name, wrong))


def entitle(markdown: str) -> str:
    """Blocks with a name get it as their title: without that they would be no blocks at all."""
    return _NAMED.sub(r'\g<fence>\g<language> title="\g<name>"', markdown)


def relink(
    markdown: str, page: str, on_site: Callable[[str], bool], wrong: Callable[[str], None]
) -> str:
    """`markdown` of a page of the site with each link made to fit there.

    `page` is its path on the site; `on_site` says whether there is a file at such a path; `wrong`
    is told each target that is neither there nor in the repository.
    """
    folder = posixpath.dirname(repository_path(page))

    def replace(match: re.Match[str]) -> str:
        path, mark, anchor = match["target"].partition("#")
        if not path or re.match(r"[a-z]+:", path):
            return match[0]
        target = posixpath.normpath(posixpath.join(folder, path))
        there = site_path(HOME.get(target, target))
        if on_site(there):
            relative = posixpath.relpath(there, posixpath.dirname(page) or ".")
            return f"{match['image']}[{match['text']}]({relative}{mark}{anchor})"
        if not (ROOT / target).exists():
            wrong(match["target"])
        text = match["text"]
        return text if "`" in text else f"`{text}`" if "/" in text or "." in text else text

    parts = _FENCED.split(markdown)
    # Between two pieces of text: a fenced block, and the fence that it was found by.
    return "".join(
        _LINK.sub(replace, part) if index % 3 == 0 else part
        for index, part in enumerate(parts)
        if index % 3 != 2
    )


def repository_path(page: str) -> str:
    """Where a page of the site is in the repository."""
    return page if _is_outside(page) else f"docs/{page}"


def site_path(file: str) -> str:
    """Where a file of the repository is on the site, if it is there."""
    return file.removeprefix("docs/") if file.startswith("docs/") else file


def _is_outside(page: str) -> bool:
    return any(Path(page).match(pattern) for pattern in OUTSIDE)
