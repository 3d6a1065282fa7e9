#!/usr/bin/env python
import os
import sys


def main() -> None:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "notpanel.settings")
    try:
        from django.core.management import execute_from_command_line

        from notpanel.environment import BadSetting
        from notpanel.server import embedded
    except ImportError as error:
        raise SystemExit(f"{error}. `make install` makes a .venv; run .venv/bin/python manage.py.") from error
    try:
        embedded.provide()
        execute_from_command_line(sys.argv)
    except (BadSetting, embedded.Unavailable) as error:
        raise SystemExit(str(error)) from error


if __name__ == "__main__":
    main()
