"""Accounts, staff, keys and the audit log in the admin.

``accounts`` are all accounts, ``staff`` is what superusers do with those of staff, ``steps`` what the buttons share.
"""

from apikeys.admin import accounts, audit, groups, keys

__all__ = ["accounts", "audit", "groups", "keys"]
