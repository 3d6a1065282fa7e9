"""Accounts, staff, keys and the audit log in the admin.

``accounts`` has all accounts, ``staff`` what superusers do with those of staff, and ``steps`` what the buttons share.
"""

from apikeys.admin import accounts, audit, groups, keys

__all__ = ["accounts", "audit", "groups", "keys"]
