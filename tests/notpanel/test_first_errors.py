"""What a newcomer or an operator may get wrong first: each gets one sentence, without a traceback."""

import contextlib
import os
import shutil
import socket
import struct
import subprocess
import sys
import threading
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import pytest
from django.core.management import call_command
from django.db.migrations.recorder import MigrationRecorder

from apikeys.imports import ACCOUNT_COLUMNS
from notpanel.server import checks
from orders.imports import ORDER_COLUMNS, SERVICE_COLUMNS
from tests.server import database_url, free_port

BASE_DIR = Path(__file__).resolve().parent.parent.parent
GOOD = {"SECRET_KEY": "x" * 50}


def manage(*arguments, **environment):
    """Run manage.py. Returns the exit status and what it wrote."""
    command = [sys.executable, "manage.py", *arguments]
    run = subprocess.run(
        command, cwd=BASE_DIR, env=os.environ | GOOD | environment, capture_output=True, text=True, timeout=60
    )
    return run.returncode, run.stdout + run.stderr


def database(**parts):
    """Return DATABASE_URL with some of its parts replaced."""
    return urlunsplit(urlsplit(os.environ["DATABASE_URL"])._replace(**parts))


@pytest.fixture
def wrong_password():
    """Return the address of a server that says to each client that its password is wrong, as PostgreSQL does."""
    fields = b'SFATAL\0VFATAL\0C28P01\0Mpassword authentication failed for user "x"\0\0'
    refusal = b"E" + struct.pack("!i", len(fields) + 4) + fields

    def refuse(listener):
        with contextlib.suppress(OSError):
            while True:
                client, _ = listener.accept()
                with client:
                    # A client asks for encryption first, by a message of eight bytes.
                    while len(client.recv(1024)) == 8:
                        client.sendall(b"N")
                    client.sendall(refusal)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=refuse, args=[listener])
        thread.start()
        yield f"postgresql://x:wrong@127.0.0.1:{listener.getsockname()[1]}/x"
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()


@pytest.mark.parametrize(
    "command",
    [
        ("migrate",),
        ("serve",),
        ("demo", "--force"),
        ("createapikey", "x"),
        ("revokeapikey", "np_abcdefgh"),
        ("settlerefills", "{file}", "--by", "x"),
        ("importorders", "{file}"),
        ("importaccounts", "{file}"),
        ("importservices", "{file}"),
        ("createsuperuser", "--noinput", "--username", "x", "--email", "x@example.com"),
        ("changepassword", "x"),
        ("showmigrations",),
    ],
    ids=lambda command: command[0],
)
def test_every_command_names_a_database_that_cannot_be_used(command, tmp_path):
    file = tmp_path / "file.csv"
    all_columns = {"importorders": ORDER_COLUMNS, "importservices": SERVICE_COLUMNS, "importaccounts": ACCOUNT_COLUMNS}
    columns = all_columns.get(command[0], ())
    file.write_text(",".join(column.name for column in columns) + "\n")
    arguments = [part.format(file=file) for part in command]
    arguments += ["--port", str(free_port())] if command[0] == "serve" else []

    assert_names_the_database(arguments, database(path="/nosuch"), 'database "nosuch" does not exist')


def test_whatever_is_wrong_with_a_database_is_named(wrong_password):
    for url, cause in {
        f"postgresql://postgres@127.0.0.1:{free_port()}/x": "Connection refused",
        "postgresql://postgres@nosuch.invalid/x": "nosuch.invalid",
        wrong_password: 'password authentication failed for user "x"',
    }.items():
        assert_names_the_database(["migrate"], url, cause)


def assert_names_the_database(arguments, url, cause):
    status, output = manage(*arguments, DATABASE_URL=url)

    assert status == 1
    [line] = output.splitlines()
    assert line.startswith("The database of DATABASE_URL cannot be used: ")
    assert cause in line


@pytest.mark.parametrize("command", [("serve",), ("serve", "--probe"), ("fakesupplier",)])
def test_a_port_that_is_taken_is_named_before_anything_is_printed(command):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]

        status, output = manage(*command, "--port", str(port))

    assert (status, output) == (
        1,
        f"Port {port} of 127.0.0.1 is taken: stop the program that listens there, or set PORT to another.\n",
    )


def test_a_free_port_is_not_mentioned():
    assert manage("serve", "--port", str(free_port()), "--probe") == (0, "")


@pytest.mark.parametrize("port", ["abc", "0", "65536", "-1", "1.5", "٣"])
def test_an_invalid_port_is_named(port):
    status, output = manage("serve", f"--port={port}")

    assert status == 2
    assert output.splitlines()[-1].endswith(f"argument --port: “{port}” must be a whole number from 1 to 65535")
    assert manage("serve", PORT=port)[0] == 1


@pytest.mark.parametrize("host", ["192.0.2.1", "nosuch.invalid"])
def test_an_address_of_another_machine_is_named(host):
    status, output = manage("serve", HOST=host, PORT=str(free_port()))

    assert status == 1
    assert len(output.splitlines()) == 1
    assert "HOST" in output


def test_two_setups_at_once_take_turns(tmp_path):
    """Two `make demo` at once: the second waits, and finds everything done."""
    code = """
import sys, time
from pathlib import Path
from notpanel.server import embedded
embedded.DIRECTORY = Path(sys.argv[1]) / "postgres"
with embedded.one_at_a_time(["migrate"]):
    print("in", flush=True)
    time.sleep(0.3)
    print("out", flush=True)
"""
    with (tmp_path / "log").open("a") as log:
        both = [subprocess.Popen([sys.executable, "-c", code, tmp_path], cwd=BASE_DIR, stdout=log) for _ in range(2)]
        assert [process.wait(30) for process in both] == [0, 0]

    assert (tmp_path / "log").read_text().split() == ["in", "out", "in", "out"]


class TestWhatServeWants:
    @pytest.mark.parametrize("length", [1, 49])
    def test_a_long_secret_key(self, settings, length):
        settings.SECRET_KEY = "x" * length

        with pytest.raises(checks.Unready, match=rf"SECRET_KEY has {length} characters: it must have at least 50"):
            checks.check_settings()

    def test_fifty_characters_are_enough(self, settings):
        settings.SECRET_KEY = "x" * 50

        checks.check_settings()

    @pytest.mark.parametrize(
        ("debug", "hosts", "refused"), [(True, ["a", "*"], True), (True, ["a"], False), (False, ["*"], False)]
    )
    def test_no_source_on_error_pages_for_everybody(self, settings, debug, hosts, refused):
        settings.DEBUG, settings.ALLOWED_HOSTS = debug, hosts

        if refused:
            with pytest.raises(checks.Unready, match="DEBUG is on and ALLOWED_HOSTS is"):
                checks.check_settings()
        else:
            checks.check_settings()

    def test_static_files(self, settings, tmp_path):
        settings.STATIC_ROOT = tmp_path

        with pytest.raises(checks.Unready, match="collectstatic"):
            checks.check_static_files()
        (tmp_path / "staticfiles.json").write_text("{}")
        checks.check_static_files()

    @pytest.mark.django_db(transaction=True)
    def test_all_migrations(self):
        checks.check_migrations()
        row = MigrationRecorder.Migration.objects.filter(app="refills").latest("name")
        row.delete()
        try:
            with pytest.raises(
                checks.Unready, match=rf"lacks migrations \(refills\.{row.name}\): run `manage.py migrate`"
            ):
                checks.check_migrations()
        finally:
            row.save()
        checks.check_migrations()

    @pytest.mark.django_db(transaction=True)
    def test_no_connection_is_left_for_the_processes_that_are_forked(self):
        """Two processes on one connection read each other's answers."""
        code = (
            "import django; django.setup()\n"
            "from django.db.backends.postgresql.base import DatabaseWrapper\n"
            "from notpanel.server import checks\n"
            "checks.check_migrations()\n"
            "checks.close_connections()\n"
            "assert DatabaseWrapper._connection_pools == {}"
        )
        environment = os.environ | {"DATABASE_URL": database_url(), "DJANGO_SETTINGS_MODULE": "notpanel.settings"}

        subprocess.run([sys.executable, "-c", code], cwd=BASE_DIR, env=environment, check=True)

    @pytest.mark.parametrize("name", ["check_port", "check_settings", "check_static_files", "check_migrations"])
    def test_each_is_checked_before_it_serves(self, monkeypatch, name):
        def refuse(*args):
            raise checks.Unready(name)

        for each in ("check_port", "check_settings", "check_static_files", "check_migrations"):
            monkeypatch.setattr(checks, each, refuse if each == name else lambda *args: None)
        monkeypatch.setattr(
            "notpanel.management.commands.serve.Application.run", lambda server: pytest.fail("It serves.")
        )

        with pytest.raises(checks.Unready, match=name):
            call_command("serve")


@pytest.mark.skipif(os.geteuid() != 0, reason="root alone can become other users")
def test_a_directory_that_cannot_be_written_is_named_by_make(tmp_path):
    for name in ("Makefile", "requirements.txt", ".env.example"):
        shutil.copy(BASE_DIR / name, tmp_path)
    for folder in (tmp_path, *tmp_path.parents[:2]):
        folder.chmod(folder.stat().st_mode | 0o055)
    run = subprocess.run(
        ["make", "demo", f"PYTHON={shutil.which('python3', path='/usr/bin')}"],
        cwd=tmp_path,
        env={"PATH": "/usr/bin:/bin"},
        user=65534,
        capture_output=True,
        text=True,
    )

    assert run.returncode == 2
    assert f"{tmp_path} cannot be written: run make as the user who owns it." in run.stderr


def test_a_file_that_cannot_be_written_is_named():
    code = (
        "import errno, runpy, sys\n"
        "from notpanel.server import embedded\n"
        "def fail(): raise OSError(errno.ENOSPC, 'No space left on device', '/full/file')\n"
        "embedded.provide = fail\n"
        "runpy.run_path('manage.py', run_name='__main__')\n"
    )

    run = subprocess.run([sys.executable, "-c", code], cwd=BASE_DIR, capture_output=True, text=True)

    assert (run.returncode, run.stderr) == (1, "/full/file cannot be written: No space left on device.\n")
