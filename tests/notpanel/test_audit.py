"""What .ci/audit makes of pip-audit's answer."""

import json
import os
import subprocess
import sys

import pytest

from tests.server import BASE_DIR

SAFE = {"name": "django", "version": "5.2", "vulns": []}
VULNERABLE = {"name": "redis", "version": "5", "vulns": [{"id": "PYSEC-1", "fix_versions": ["5.1"]}]}
SKIPPED = {"name": "tqdm", "skip_reason": "Dependency not found on PyPI and could not be audited"}


@pytest.mark.parametrize(
    ("answer", "status", "said"),
    [
        ({"dependencies": [SAFE]}, 0, "AUDIT: 0 known vulnerabilities in 1 packages."),
        ({"dependencies": [SAFE, VULNERABLE]}, 1, "redis 5: PYSEC-1, fixed in 5.1"),
        ({"dependencies": [SAFE, SKIPPED]}, 0, "AUDIT: 1 of 2 packages are not in the index"),
        ({"dependencies": [SKIPPED]}, 0, "AUDIT: not done."),
        (None, 0, "AUDIT: not done."),
    ],
)
def test_the_audit_lists_known_vulnerabilities(tmp_path, answer, status, said):
    python = tmp_path / "python"
    os.symlink(sys.executable, python)
    fake = tmp_path / "pip-audit"
    fake.write_text(f"#!/bin/sh\necho '{json.dumps(answer) if answer else 'ConnectionError'}'\n")
    fake.chmod(0o755)

    run = subprocess.run([python, BASE_DIR / ".ci" / "audit"], cwd=BASE_DIR, capture_output=True, text=True)

    assert (run.returncode, run.stderr) == (status, "")
    assert said in run.stdout
