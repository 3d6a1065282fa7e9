"""The private PostgreSQL of a machine that has none. Its users are processes, so each case runs some."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import psycopg
import pytest

BASE_DIR = Path(__file__).resolve().parent.parent.parent
USER = """
import sys
from pathlib import Path
from notpanel.server import embedded
print(embedded.start(Path(sys.argv[1])), flush=True)
sys.stdin.read()
"""

pytestmark = pytest.mark.xdist_group("embedded")


class User:
    """A process that uses the server in ``directory`` until its standard input is closed."""

    def __init__(self, directory, code=USER):
        self.process = subprocess.Popen(
            [sys.executable, "-c", code, str(directory)],
            cwd=BASE_DIR,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.url = self.process.stdout.readline().strip()

    def leave(self):
        self.process.communicate(timeout=30)
        return self.process.returncode

    def kill(self, number):
        self.process.send_signal(number)
        return self.process.wait(30)


@pytest.fixture
def directory(tmp_path):
    # If the tests run as root, starting the server opens the folders above to the user that PostgreSQL runs as.
    return tmp_path / "var" / "postgres"


def is_running(directory):
    return (directory / "postmaster.pid").exists()


def ask(url, question):
    with psycopg.connect(url) as connection:
        return connection.execute(question).fetchone()[0]


def test_the_server_is_postgresql_18_and_stops_with_its_only_user(directory):
    user = User(directory)

    assert ask(user.url, "SHOW server_version").startswith("18")
    assert ask(user.url, "SELECT current_database()") == "notpanel"
    assert ask(user.url, "SHOW listen_addresses") == ""
    assert user.leave() == 0
    assert not is_running(directory)


def test_the_server_stops_with_its_last_user_and_keeps_its_data(directory):
    first, second = User(directory), User(directory)
    with psycopg.connect(first.url) as connection:
        connection.execute("CREATE TABLE kept AS SELECT 7 AS figure")

    first.leave()
    assert ask(second.url, "SELECT figure FROM kept") == 7
    second.leave()
    assert not is_running(directory)

    again = User(directory)
    assert ask(again.url, "SELECT figure FROM kept") == 7
    again.leave()


def test_users_that_start_at_the_same_time_share_one_server(directory):
    start = [sys.executable, "-c", USER, str(directory)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "cwd": BASE_DIR}
    processes = [subprocess.Popen(start, **pipes) for _ in range(4)]

    urls = {process.stdout.readline().strip() for process in processes}

    assert len(urls) == 1
    for process in processes:
        process.communicate(timeout=30)
        assert process.returncode == 0
    assert not is_running(directory)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_the_server_stops_with_a_user_that_gets_a_signal(directory, number):
    user = User(directory)

    assert user.kill(number) == 128 + number
    assert not is_running(directory)


def test_a_user_that_was_killed_is_not_waited_for(directory):
    killed, other = User(directory), User(directory)

    killed.kill(signal.SIGKILL)
    other.leave()

    assert not is_running(directory)


def test_a_fork_that_ends_does_not_stop_the_server(directory):
    code = USER.replace(
        "sys.stdin.read()",
        'import os\nif os.fork() == 0: sys.exit()\nos.wait()\nprint("forked", flush=True)\nsys.stdin.read()',
    )
    user = User(directory, code)

    assert user.process.stdout.readline() == "forked\n"
    assert ask(user.url, "SELECT 1") == 1
    user.leave()
    assert not is_running(directory)


def test_the_server_starts_in_a_directory_too_deep_for_a_socket(tmp_path):
    directory = tmp_path / ("a-folder-with-a-long-name-" * 4) / "var" / "postgres"
    directory.parent.mkdir(parents=True)
    assert len(str(directory)) > 108

    user = User(directory)

    assert ask(user.url, "SELECT 1") == 1
    user.leave()


def test_root_and_ordinary_users_can_start_a_server(tmp_path):
    """The other cases run as the user who runs the tests. If that is root, this one becomes an ordinary user."""
    nobody, is_root = 65534, os.geteuid() == 0
    if is_root:
        os.chown(tmp_path, nobody, nobody)
        for folder in (tmp_path.parent, tmp_path.parent.parent, tmp_path.parent.parent.parent):
            folder.chmod(folder.stat().st_mode | 0o055)
    # Only root may be able to read the standard library, so import what is needed before giving up root.
    become = f"""
import os, hashlib, logging, platform, shutil, socket, stat, tempfile
import fasteners, platformdirs, psutil, psycopg
os.setgroups([]); os.setgid({nobody}); os.setuid({nobody})
"""

    user = User(tmp_path / "var" / "postgres", code=(become if is_root else "") + USER)

    assert ask(user.url, "SELECT 1") == 1
    assert (tmp_path / "var" / "postgres").stat().st_uid == (nobody if is_root else os.geteuid())
    assert user.leave() == 0
    assert not is_running(tmp_path / "var" / "postgres")
