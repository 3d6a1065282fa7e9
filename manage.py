#!/usr/bin/env python
import contextlib
import errno
import os
import sys

# Where the operator must act: the rest is a bug, and its traceback is wanted.
OF_THE_MACHINE = {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT}


def main() -> None:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "notpanel.settings")
    try:
        from django.core.exceptions import ImproperlyConfigured
        from django.core.management import execute_from_command_line
        from django.db import OperationalError

        from notpanel.environment import BadSetting
        from notpanel.server import checks, embedded
    except ImportError as error:
        raise SystemExit(f"{error}. `make install` makes a .venv; run .venv/bin/python manage.py.") from error
    try:
        embedded.provide()
        if sys.argv[1:2] != ["serve"]:
            without_pools()
        with embedded.one_at_a_time(sys.argv[1:2]):
            execute_from_command_line(sys.argv)
    except (BadSetting, embedded.Unavailable, checks.Unready) as error:
        raise SystemExit(str(error)) from error
    except OSError as error:
        if error.errno in OF_THE_MACHINE:
            raise SystemExit(f"{error.filename or 'A file'} cannot be written: {error.strerror}.") from error
        raise
    except OperationalError:
        try:
            checks.check_database()
        except ImproperlyConfigured as error:
            raise SystemExit(str(error)) from error
        raise


def without_pools() -> None:
    """Let a command, which needs one connection, hear at once why it gets none: a pool warns, and tries for seconds."""
    from django.conf import settings
    from django.core.exceptions import ImproperlyConfigured

    with contextlib.suppress(ImproperlyConfigured):  # the command says so, if it needs the settings
        for database in settings.DATABASES.values():
            database["OPTIONS"].pop("pool", None)


if __name__ == "__main__":
    main()
