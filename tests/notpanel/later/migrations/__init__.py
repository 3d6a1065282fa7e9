"""Migrations of a later release, for the tests of `manage.py migrate`."""
