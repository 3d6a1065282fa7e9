"""``make lint`` finds every import that no line of .importlinter allows."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

BASE_DIR = Path(__file__).resolve().parent.parent
PACKAGES = ("notpanel", "apikeys", "orders", "refills")

# All tests of a worker share one copy.
pytestmark = pytest.mark.xdist_group("imports")


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    directory = tmp_path_factory.mktemp("copy")
    for package in PACKAGES:
        shutil.copytree(BASE_DIR / package, directory / package, ignore=shutil.ignore_patterns("__pycache__", "static"))
    shutil.copy(BASE_DIR / ".importlinter", directory)
    return directory


@pytest.fixture
def plant(copy):
    """Append an import to a module of the copy, creating the module if it is new, until the test ends."""
    planted = {}

    def append(module, line):
        path = (copy / module.replace(".", "/")).with_suffix(".py")
        planted[path] = path.read_text() if path.exists() else None
        path.write_text(f"{planted[path] or ''}\n{line}\n")

    yield append
    for path, text in planted.items():
        path.unlink() if text is None else path.write_text(text)


def lint(copy):
    """Return what lint-imports prints, or "" if it finds nothing."""
    command = [Path(sys.executable).with_name("lint-imports"), "--no-cache"]
    run = subprocess.run(command, cwd=copy, capture_output=True, text=True)
    return run.stdout if run.returncode else ""


def test_the_code_breaks_no_contract(copy):
    assert lint(copy) == ""


@pytest.mark.parametrize(
    ("module", "imported"),
    [
        ("refills.requesting", "notpanel.middleware"),
        ("refills.statistics", "refills.admin"),
        ("apikeys.accounts", "apikeys.views"),
        ("orders.models", "refills.models"),
        ("refills.rules", "notpanel.api.errors"),
        ("refills.views", "apikeys.views"),
        ("notpanel.kit.sql", "notpanel.settings"),
        ("notpanel.api.view", "apikeys.keys"),
    ],
)
def test_an_import_that_no_line_allows_is_found(copy, plant, module, imported):
    plant(module, f"import {imported}")

    assert f"{module} -> {imported}" in lint(copy)


def test_a_new_module_may_import_nothing(copy, plant):
    plant("refills.newcomer", "import refills.models")

    assert "refills.newcomer -> refills.models" in lint(copy)


@pytest.mark.parametrize("library", ["rest_framework", "redis", "django_ratelimit"])
def test_the_domain_knows_neither_http_nor_redis(copy, plant, library):
    plant("refills.refusals", f"import {library}")

    assert f"refills.refusals -> {library}" in lint(copy)


def test_a_line_that_is_no_longer_needed_is_found(copy):
    allowed = copy / ".importlinter"
    text = allowed.read_text()
    line = "    refills.urls -> refills.views\n"
    allowed.write_text(text.replace(line, f"{line}    refills.urls -> refills.models\n"))
    try:
        assert "refills.urls -> refills.models" in lint(copy)
    finally:
        allowed.write_text(text)
