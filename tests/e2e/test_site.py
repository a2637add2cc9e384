"""The documentation's site: it builds without a warning, has every page, loads nothing from
elsewhere, and its links lead where those of the repository do."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

from scripts.site_pages import entitle, listed, relink

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("docs") / "site"
    built = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)],
        cwd=ROOT, env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert built.returncode == 0, built.stderr
    return folder


class Loads(HTMLParser):
    """What a page has a browser fetch by itself, and where its links lead."""

    def __init__(self) -> None:
        super().__init__()
        self.loaded: list[str] = []
        self.links: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value for name, value in attrs if value}
        if tag == "a" and "href" in given:
            self.links.append(given["href"])
        elif tag == "link" and given.get("rel") not in ("canonical", "prev", "next"):
            self.loaded.append(given.get("href", ""))
        elif "src" in given:
            self.loaded.append(given["src"])


def read(page: Path) -> Loads:
    found = Loads()
    found.feed(page.read_text())
    return found


def test_site_has_a_page_for_every_document(site: Path) -> None:
    pages = {path.relative_to(site).as_posix() for path in site.rglob("index.html")}
    wanted = {f"{path.stem}/index.html" for path in ROOT.glob("docs/*.md")} - {"index/index.html"}
    wanted |= {"index.html", "protocol/SPEC/index.html", "CHANGELOG/index.html"}
    wanted |= {
        f"clients/{path.parent.name}/index.html" for path in ROOT.glob("clients/*/README.md")
    }
    assert wanted <= pages


def test_site_loads_nothing_from_other_hosts(site: Path) -> None:
    pages = [*site.rglob("*.html")]
    assert len(pages) > 10
    for page in pages:
        loaded = read(page).loaded
        assert len(loaded) > 3
        assert [address for address in loaded if re.match(r"([a-z]+:)?//", address)] == []
        assert "@import" not in page.read_text()
    for sheet in site.rglob("*.css"):
        assert not re.search(r"url\(\s*[\"']?(https?:)?//", sheet.read_text()), sheet


def test_site_links_lead_to_pages(site: Path) -> None:
    count = 0
    for page in site.rglob("index.html"):
        for link in read(page).links:
            path, _, anchor = link.partition("#")
            if re.match(r"[a-z]+:", link):
                continue
            target = (page.parent / path).resolve() if path else page
            target = target / "index.html" if target.is_dir() else target
            assert target.is_file(), f"{page.relative_to(site)}: {link}"
            if anchor and anchor != "__skip":
                assert re.search(rf'id="?{re.escape(anchor)}["\s>]', target.read_text()), link
            count += 1
    assert count > 500


def test_site_search_finds_settings_metrics_and_messages(site: Path) -> None:
    index = json.loads((site / "search/search_index.json").read_text())
    places: dict[str, str] = {}
    for entry in index["docs"]:
        places[entry["location"].partition("#")[0]] = (
            places.get(entry["location"].partition("#")[0], "") + entry["text"]
        )
    assert "expert.ratio.start" in places["configuration/"]
    assert "transitions_dropped" in places["metrics/"]
    assert "HELLO" in places["protocol/SPEC/"]


def test_site_keeps_code_blocks_intact(site: Path) -> None:
    """Words behind a fence's language must not spill the block over the page."""
    assert entitle("```hex hello lander\n00\n```\n") == ('```hex title="hello lander"\n00\n```\n')
    assert entitle('```sh\n``` \n```py title="x"\n') == '```sh\n``` \n```py title="x"\n'
    for page in site.rglob("index.html"):
        assert "```" not in page.read_text(), page


def test_site_lists_every_client_readme() -> None:
    nav = [{"A": "a.md"}, {"B": ["clients/*/README.md", {"C": "c.md"}]}]
    clients = [
        f"clients/{p.parent.name}/README.md" for p in sorted(ROOT.glob("clients/*/README.md"))
    ]
    assert "clients/python/README.md" in clients
    assert listed(nav) == [{"A": "a.md"}, {"B": [*clients, {"C": "c.md"}]}]


# Links, as the site has them.


def test_site_links_are_rewritten_for_the_site() -> None:
    there = {"learning.md", "index.md", "protocol/SPEC.md", "clients/python/README.md"}
    wrong: list[str] = []

    def done(text: str, page: str) -> str:
        return relink(text, page, there.__contains__, wrong.append)

    assert done("[a](learning.md#x)", "design.md") == "[a](learning.md#x)"
    assert done("[a](../protocol/SPEC.md)", "design.md") == "[a](protocol/SPEC.md)"
    assert done("[a](../docs/learning.md)", "protocol/SPEC.md") == "[a](../learning.md)"
    assert done("[a](../README.md)", "design.md") == "[a](index.md)"
    assert done("[a](../../README.md)", "clients/python/README.md") == "[a](../../index.md)"
    assert done("[a](#x) [b](mailto:c) [d](https://e)", "design.md") == (
        "[a](#x) [b](mailto:c) [d](https://e)"
    )
    # In the repository alone: its text.
    assert done("see [the script](../scripts/demo).", "design.md") == "see the script."
    assert done("see [scripts/demo](../scripts/demo).", "design.md") == "see `scripts/demo`."
    assert done("see [`demo`](../scripts/demo).", "design.md") == "see `demo`."
    assert wrong == []
    # Code is left as it is.
    code = "```python\n[a](../scripts/demo)\n```\n"
    assert done(code + "[b](learning.md)", "design.md") == code + "[b](learning.md)"
    assert wrong == []
    done("[a](nothing.md)", "design.md")
    assert wrong == ["nothing.md"]
