"""Links and citations in the documentation lead somewhere."""

import re
from pathlib import Path

import pytest

BASE_DIR = Path(__file__).resolve().parent.parent.parent
PAGES = sorted(path for pattern in ("*.md", "docs/**/*.md", ".github/**/*.md") for path in BASE_DIR.glob(pattern))
CITING = [path for path in BASE_DIR.glob("**/*.py") if path.relative_to(BASE_DIR).parts[0] not in (".venv", "var")]


def prose(page):
    """Return the page without its blocks of code."""
    return re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)


def anchors(page):
    """Return the anchors of the headings, as GitHub names them."""
    found = []
    for heading in re.findall(r"^#+ (.+)$", prose(page), re.MULTILINE):
        text = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", heading)
        slug = re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-")
        found.append(f"{slug}-{found.count(slug)}" if slug in found else slug)
    return found


def relative_links(page):
    text = re.sub(r"`[^`\n]*`", "", prose(page))
    targets = re.findall(r"\]\(([^)\s]+)\)", text) + re.findall(r"^\[[^]]+\]: (\S+)", text, re.MULTILINE)
    return [target for target in targets if not re.match(r"[a-z]+:", target)]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(BASE_DIR)))
def test_every_relative_link_resolves(page):
    broken = []
    for target in relative_links(page):
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        if not file.exists() or not file.is_relative_to(BASE_DIR) or (anchor and anchor not in anchors(file)):
            broken.append(target)

    assert not broken


def test_links_are_found():
    assert "docs/contract.md" in relative_links(BASE_DIR / "README.md")
    assert "several-servers" in anchors(BASE_DIR / "docs" / "scaling.md")


def test_every_page_of_the_docs_is_in_an_index():
    indexed = {
        (index.parent / target.partition("#")[0]).resolve()
        for index in BASE_DIR.glob("docs/**/README.md")
        for target in relative_links(index)
    }

    assert (
        not {page for page in PAGES if page.is_relative_to(BASE_DIR / "docs")} - indexed - {BASE_DIR / "docs/README.md"}
    )


def test_the_contract_is_cited_by_its_path():
    """Links are left out: their targets are relative to the page, and tested above."""
    cited = [
        f"{path.relative_to(BASE_DIR)}: {citation}"
        for path in [*PAGES, *CITING]
        for citation in re.findall(
            r"(?<!docs/)contract\.md|request-refill\.txt", re.sub(r"\[[^]]*\]\([^)]*\)", "", path.read_text())
        )
    ]

    assert not cited


def test_the_sections_that_code_cites_exist():
    citations = {
        (path, page, heading)
        for path in CITING
        for page, heading in re.findall(r'(docs/[\w/-]+\.md), "([^"]+)"', path.read_text())
    }
    missing = [
        f"{path.relative_to(BASE_DIR)}: {page}, {heading}"
        for path, page, heading in citations
        if f" {heading}\n" not in re.sub(r"^(?!#).*$", "", prose(BASE_DIR / page), flags=re.MULTILINE)
    ]

    assert citations
    assert not missing
