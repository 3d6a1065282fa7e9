"""The figures by day that the start page reads, beside the refills and orders that they count.

Triggers append a row to ``refills_figurechange`` for what a statement adds to a count or takes from it, in the
transaction of the statement. ``fold()`` adds these rows to the figures and deletes them. A figure and its changes
together are right in every snapshot, folded or not (docs/decisions/0014-figures-by-day.md).
"""

from datetime import UTC, date, datetime, time, timedelta

from django.db import OperationalError, connection, transaction
from psycopg.errors import LockNotAvailable

DAYS = 30  # that are counted, today included
# Clocks differ: the window moves on once no server has the day before.
ROLLS_AFTER = timedelta(minutes=1)

# What rows of changes or of facts add to each figure. ``{source}`` is either.
DAY_FIGURES = """
    SELECT cell.kind, day, cell.key, cell.bucket,
        coalesce(sum(n) FILTER (WHERE what = 'requested'), 0) AS requested,
        coalesce(sum(n) FILTER (WHERE what = 'completed'), 0) AS completed,
        coalesce(sum(n) FILTER (WHERE what = 'rejected'), 0) AS rejected
    FROM {source} AS fact
        CROSS JOIN LATERAL (
            VALUES ('day', 0::bigint, 0), ('hours', 0, fact.bucket), ('agent', fact.settled_by_id, fact.bucket)
        ) AS cell (kind, key, bucket)
    WHERE what IN ('requested', 'completed', 'rejected') AND (what <> 'requested' OR cell.kind = 'day')
        AND day >= {since}
    GROUP BY 1, 2, 3, 4
"""
RECENT_FIGURES = """
    SELECT cell.kind, cell.key,
        coalesce(sum(n) FILTER (WHERE what = 'ordered'), 0) AS orders,
        coalesce(sum(n) FILTER (WHERE what = 'refilled'), 0) AS refilled,
        coalesce(sum(n) FILTER (WHERE what = 'completed'), 0) AS completed,
        coalesce(sum(n) FILTER (WHERE what = 'rejected'), 0) AS rejected
    FROM {source} AS fact
        CROSS JOIN LATERAL (VALUES ('account', account_id), ('service', service_id::bigint)) AS cell (kind, key)
    WHERE what IN ('ordered', 'refilled', 'completed', 'rejected')
    GROUP BY 1, 2
"""
SINCE = "coalesce((SELECT since FROM refills_figurewindow), '-infinity')"

# The changes, without the facts of days that leave the window.
_STAYING = f"""(
    SELECT what, account_id, service_id, n FROM folded WHERE day >= {SINCE}
    UNION ALL
    SELECT what, account_id, service_id, -n FROM refills_figurefact
    WHERE at >= {SINCE}::timestamp AT TIME ZONE 'UTC' AND at < (SELECT since::timestamp AT TIME ZONE 'UTC' FROM began)
)"""
# One statement, so that it sees one snapshot: each change is either still to be folded, or in the figures.
_FOLD = f"""
    WITH folded AS (DELETE FROM refills_figurechange RETURNING *),
    began AS (SELECT greatest({SINCE}, %(since)s) AS since),
    rolled AS (
        INSERT INTO refills_figurewindow (since) SELECT since FROM began
        ON CONFLICT (one) DO UPDATE SET since = excluded.since
    ),
    left_behind AS (DELETE FROM refills_dayfigure WHERE day < (SELECT since FROM began)),
    by_day AS (
        INSERT INTO refills_dayfigure AS known (kind, day, key, bucket, requested, completed, rejected)
        {DAY_FIGURES.format(source="folded", since="(SELECT since FROM began)")}
        ON CONFLICT (kind, day, key, bucket) DO UPDATE SET requested = known.requested + excluded.requested,
            completed = known.completed + excluded.completed, rejected = known.rejected + excluded.rejected
    )
    INSERT INTO refills_recentfigure AS known (kind, key, orders, refilled, completed, rejected)
    {RECENT_FIGURES.format(source=_STAYING)}
    ON CONFLICT (kind, key) DO UPDATE SET orders = known.orders + excluded.orders,
        refilled = known.refilled + excluded.refilled, completed = known.completed + excluded.completed,
        rejected = known.rejected + excluded.rejected
"""
# The figures that are not what the facts say, as texts: facts count up, and what is kept of them counts down.
_FACTS_SINCE = f"(SELECT * FROM refills_figurefact WHERE at >= {SINCE}::timestamp AT TIME ZONE 'UTC')"
_CHANGES_SINCE = f"(SELECT * FROM refills_figurechange WHERE day >= {SINCE})"
WRONG_FIGURES = f"""
    SELECT concat_ws(' ', kind, day, nullif(key, 0))
    FROM (
        SELECT kind, day, key, bucket, requested, completed, rejected, 0 AS orders, 0 AS refilled
        FROM ({DAY_FIGURES.format(source=_FACTS_SINCE, since=SINCE)}) AS fact
        UNION ALL
        SELECT kind, day, key, bucket, -requested, -completed, -rejected, 0, 0
        FROM ({DAY_FIGURES.format(source=_CHANGES_SINCE, since=SINCE)}) AS change
        UNION ALL
        SELECT kind, day, key, bucket, -requested, -completed, -rejected, 0, 0 FROM refills_dayfigure
        UNION ALL
        SELECT kind, NULL, key, 0, 0, completed, rejected, orders, refilled
        FROM ({RECENT_FIGURES.format(source=_FACTS_SINCE)}) AS fact
        UNION ALL
        SELECT kind, NULL, key, 0, 0, -completed, -rejected, -orders, -refilled
        FROM ({RECENT_FIGURES.format(source=_CHANGES_SINCE)}) AS change
        UNION ALL
        SELECT kind, NULL, key, 0, 0, -completed, -rejected, -orders, -refilled FROM refills_recentfigure
    ) AS counted
    GROUP BY kind, day, key, bucket
    HAVING (sum(requested), sum(completed), sum(rejected), sum(orders), sum(refilled)) <> (0, 0, 0, 0, 0)
"""
_FORGET_ZEROS = """
    DELETE FROM refills_recentfigure WHERE orders = 0 AND refilled = 0 AND completed = 0 AND rejected = 0;
    DELETE FROM refills_dayfigure WHERE requested = 0 AND completed = 0 AND rejected = 0;
"""
_REBUILD = (
    "DELETE FROM refills_figurechange",
    "DELETE FROM refills_dayfigure",
    "DELETE FROM refills_recentfigure",
    "DELETE FROM refills_figurewindow",
    "INSERT INTO refills_figurewindow (since) VALUES (%(since)s)",
    "INSERT INTO refills_dayfigure (kind, day, key, bucket, requested, completed, rejected)"
    + DAY_FIGURES.format(
        source="(SELECT * FROM refills_figurefact WHERE at >= %(since_moment)s)", since="%(since)s::date"
    ),
    "INSERT INTO refills_recentfigure (kind, key, orders, refilled, completed, rejected)"
    + RECENT_FIGURES.format(source="(SELECT * FROM refills_figurefact WHERE at >= %(since_moment)s)"),
)
# Two folds at once would both move the window. Who reads the table does not wait.
_LOCK = "LOCK TABLE refills_figurewindow IN EXCLUSIVE MODE"


def first_day(now: datetime) -> date:
    """Return the first of the days (UTC) that are counted now."""
    return now.astimezone(UTC).date() - timedelta(days=DAYS - 1)


def fold(now: datetime) -> None:
    """Add the changes to the figures, and let days that are over leave the window.

    Does nothing if another fold or ``rebuild()`` is at work for longer than the lock limit: the changes wait for the
    next one.
    """
    try:
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute("SET LOCAL statement_timeout = 0")
            cursor.execute(_LOCK)
            cursor.execute(_FOLD, {"since": first_day(now - ROLLS_AFTER)})
            cursor.execute(_FORGET_ZEROS)
    except OperationalError as error:
        if not isinstance(error.__cause__, LockNotAvailable):
            raise


def rebuild(now: datetime) -> None:
    """Count all facts anew, in one snapshot and without a lock on what is counted: requests go on meanwhile.

    What is changed after the snapshot appends changes that the snapshot does not see, and these stay.
    """
    since = first_day(now - ROLLS_AFTER)
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        cursor.execute("SET LOCAL statement_timeout = 0")
        cursor.execute(_LOCK)  # before the first statement that takes a snapshot
        for statement in _REBUILD:
            cursor.execute(statement, {"since": since, "since_moment": datetime.combine(since, time(), UTC)})
