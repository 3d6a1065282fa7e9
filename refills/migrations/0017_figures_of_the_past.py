from datetime import UTC, datetime, time, timedelta

from django.contrib.postgres.operations import AddIndexConcurrently
from django.db import migrations, models, transaction

FILL = (
    # What was changed since the triggers are there is in the facts, too.
    "DELETE FROM refills_figurechange",
    "INSERT INTO refills_figurewindow (since) VALUES (%(since)s)",
    """
    INSERT INTO refills_dayfigure (kind, day, key, bucket, requested, completed, rejected)
    SELECT cell.kind, day, cell.key, cell.bucket,
        count(*) FILTER (WHERE what = 'requested'), count(*) FILTER (WHERE what = 'completed'),
        count(*) FILTER (WHERE what = 'rejected')
    FROM refills_figurefact AS fact
        CROSS JOIN LATERAL (
            VALUES ('day', 0::bigint, 0), ('hours', 0, fact.bucket), ('agent', fact.settled_by_id, fact.bucket)
        ) AS cell (kind, key, bucket)
    WHERE at >= %(moment)s AND what IN ('requested', 'completed', 'rejected')
        AND (what <> 'requested' OR cell.kind = 'day')
    GROUP BY 1, 2, 3, 4
    """,
    """
    INSERT INTO refills_recentfigure (kind, key, orders, refilled, completed, rejected)
    SELECT cell.kind, cell.key,
        count(*) FILTER (WHERE what = 'ordered'), count(*) FILTER (WHERE what = 'refilled'),
        count(*) FILTER (WHERE what = 'completed'), count(*) FILTER (WHERE what = 'rejected')
    FROM refills_figurefact AS fact
        CROSS JOIN LATERAL (VALUES ('account', account_id), ('service', service_id::bigint)) AS cell (kind, key)
    WHERE at >= %(moment)s AND what IN ('ordered', 'refilled', 'completed', 'rejected')
    GROUP BY 1, 2
    """,
)
EMPTY = "DELETE FROM refills_dayfigure; DELETE FROM refills_recentfigure; DELETE FROM refills_figurewindow"


def fill(apps, schema_editor):
    """Count the last 30 days in one snapshot, without a lock: requests and settlements go on meanwhile."""
    models_ = [apps.get_model("refills", "Refill"), apps.get_model("orders", "Order")]
    if not any(model.objects.exists() for model in models_):
        return  # the triggers have counted all that there is
    since = datetime.now(UTC).date() - timedelta(days=29)
    with transaction.atomic(), schema_editor.connection.cursor() as cursor:
        cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        cursor.execute(EMPTY)
        for statement in FILL:
            cursor.execute(statement, {"since": since, "moment": datetime.combine(since, time(), UTC)})


def empty(apps, schema_editor):
    with schema_editor.connection.cursor() as cursor:
        cursor.execute(EMPTY)


class Migration(migrations.Migration):
    atomic = False

    dependencies = [("refills", "0016_figures_by_day")]

    operations = [
        AddIndexConcurrently(
            model_name="refill",
            index=models.Index(
                models.Func("created_at", "settled_at", function="refills_bucket"),
                models.F("settled_at"),
                include=["created_at", "settled_by"],
                condition=models.Q(status__in=("completed", "rejected")),
                name="refill_by_bucket",
            ),
        ),
        AddIndexConcurrently(
            model_name="dispatch",
            index=models.Index(
                fields=["asked_at"], condition=models.Q(breaks_promise=True), name="dispatch_breaks_promise"
            ),
        ),
        migrations.RunPython(fill, empty),
    ]
