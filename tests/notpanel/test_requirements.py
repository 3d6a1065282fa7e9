"""The pins in requirements.txt and requirements-dev.txt satisfy pyproject.toml. `make requirements` compiles them."""

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

BASE_DIR = Path(__file__).resolve().parent.parent.parent
PYPROJECT = tomllib.loads((BASE_DIR / "pyproject.toml").read_text())
RUNTIME = [Requirement(text) for text in PYPROJECT["project"]["dependencies"]]
DEVELOPMENT = [Requirement(text) for text in PYPROJECT["dependency-groups"]["dev"]]


def pins(file):
    """Return the pins of a file: name → (version, extras, number of hashes, whether pyproject.toml asks for it)."""
    blocks = re.split(r"^(?=\S)", (BASE_DIR / file).read_text(), flags=re.MULTILINE)
    found = {}
    for block in filter(None, blocks):
        name, extras, version = re.match(r"([\w.-]+)(?:\[([\w, ]+)\])?==(\S+)", block).groups()
        direct = "pyproject.toml" in block
        found[canonicalize_name(name)] = (
            version,
            set(re.findall(r"\w+", extras or "")),
            block.count("--hash=sha256:"),
            direct,
        )
    return found


@pytest.mark.parametrize(
    ("file", "wanted"),
    [("requirements.txt", RUNTIME), ("requirements-dev.txt", [*RUNTIME, *DEVELOPMENT])],
)
def test_the_pins_satisfy_pyproject(file, wanted):
    pinned = pins(file)

    for requirement in wanted:
        version, extras, hashes, direct = pinned[canonicalize_name(requirement.name)]
        assert requirement.specifier.contains(version), f"{requirement}, but {version} is pinned"
        assert extras >= requirement.extras, "pip 23 does not apply a pin without the extra"
        assert hashes
        assert direct
    asked_for = {canonicalize_name(requirement.name) for requirement in wanted}
    assert {name for name, (*_, direct) in pinned.items() if direct} == asked_for


def test_both_files_pin_the_same():
    runtime, development = pins("requirements.txt"), pins("requirements-dev.txt")

    assert {name: pin[0] for name, pin in runtime.items()} == {name: development[name][0] for name in runtime}


def test_the_files_contain_no_url():
    for file in ("requirements.txt", "requirements-dev.txt"):
        assert "://" not in (BASE_DIR / file).read_text()
