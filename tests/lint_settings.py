"""The settings under which `make lint` lints migrations: the linter is a Django app, which production does not have."""

from notpanel.settings import *  # noqa: F403
from notpanel.settings import BASE_DIR, INSTALLED_APPS

INSTALLED_APPS = [*INSTALLED_APPS, "django_migration_linter"]

# The last migration of each app before the linter was added, when old and new code did not have to serve together yet.
LAST_WITHOUT_LINTER = {
    "apikeys": "0017_settlement_mails",
    "orders": "0008_longest_refill_period",
    "refills": "0013_the_order_of_changes",
}
NOT_LINTED = [
    file.stem
    for app, last in LAST_WITHOUT_LINTER.items()
    for file in (BASE_DIR / app / "migrations").glob("[0-9]*.py")
    if file.stem <= last
]
# Migrations that the linter refuses and that are right all the same: their names, each with its reason.
MEANT = [
    "0016_figures_by_day",  # drops tables only in the SQL that reverses it
    "0017_figures_of_the_past",  # gets its models in a way that the linter does not know
]

MIGRATION_LINTER_OPTIONS = {
    "include_apps": list(LAST_WITHOUT_LINTER),
    "ignore_name": NOT_LINTED + MEANT,
    "warnings_as_errors": ["CREATE_INDEX", "CREATE_INDEX_EXCLUSIVE", "DROP_INDEX", "REINDEX"],
    "quiet": ["ok", "ignore"],
    "no_cache": True,
}
