"""The settings under which `make lint` lints migrations: the linter is a Django app, which production does not have."""

from notpanel.settings import *  # noqa: F403
from notpanel.settings import BASE_DIR, INSTALLED_APPS

INSTALLED_APPS = [*INSTALLED_APPS, "django_migration_linter"]

# The last migration of each app from before the linter came: old and new code beside each other was no rule yet.
LAST_WITHOUT_LINTER = {
    "apikeys": "0017_settlement_mails",
    "orders": "0008_longest_refill_period",
    "refills": "0013_the_order_of_changes",
}
MIGRATION_LINTER_OPTIONS = {
    "include_apps": list(LAST_WITHOUT_LINTER),
    "ignore_name": [
        file.stem
        for app, last in LAST_WITHOUT_LINTER.items()
        for file in (BASE_DIR / app / "migrations").glob("[0-9]*.py")
        if file.stem <= last
    ],
    "warnings_as_errors": ["CREATE_INDEX", "CREATE_INDEX_EXCLUSIVE", "DROP_INDEX", "REINDEX"],
    "quiet": ["ok", "ignore"],
    "no_cache": True,
}
