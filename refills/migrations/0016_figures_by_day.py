from django.db import migrations

# The facts that the start page counts, each as (what, at, …): what is 'requested', 'completed' or 'rejected' of a refill,
# and 'ordered' (it was delivered) or 'refilled' (it was delivered, and has a refill) of an order.
FACTS = """
    CREATE FUNCTION refills_bucket(requested timestamptz, settled timestamptz) RETURNS integer
    LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE AS $$
    -- Numbers how long a refill took: by the second below 128 s, then 64 numbers each time that the length doubles.
    DECLARE
        seconds integer := least(greatest(floor(date_part('epoch', settled - requested)), 0), 2147483647);
        doubled integer := width_bucket(seconds, ARRAY[128, 256, 512, 1024, 2048, 4096, 8192, 16384, 32768, 65536,
            131072, 262144, 524288, 1048576, 2097152, 4194304, 8388608, 16777216, 33554432, 67108864, 134217728,
            268435456, 536870912, 1073741824]);
    BEGIN
        RETURN 64 * doubled + (seconds >> doubled);
    END $$;

    CREATE FUNCTION refills_day(at timestamptz) RETURNS date
    LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$ SELECT (at AT TIME ZONE 'UTC')::date $$;

    CREATE VIEW refills_figurefact (what, at, day, account_id, service_id, settled_by_id, bucket, n) AS
    SELECT 'requested', created_at, refills_day(created_at), NULL::bigint, NULL::integer, NULL::bigint, NULL::integer, 1
    FROM refills_refill
    UNION ALL
    SELECT status::text, settled_at, refills_day(settled_at), account_id, service_id, settled_by_id,
        refills_bucket(created_at, settled_at), 1
    FROM refills_refill WHERE status IN ('completed', 'rejected') AND settled_at IS NOT NULL
    UNION ALL
    SELECT 'ordered', completed_at, refills_day(completed_at), account_id, service_id, NULL, NULL, 1
    FROM orders_order WHERE status IN ('completed', 'partial')
    UNION ALL
    SELECT 'refilled', completed_at, refills_day(completed_at), account_id, service_id, NULL, NULL, 1
    FROM orders_order WHERE status IN ('completed', 'partial')
        AND EXISTS (SELECT FROM refills_refill WHERE refills_refill.order_id = orders_order.id);
"""
TABLES = """
    -- Rows are only appended, and taken away when they are folded into the figures: no request waits for another.
    CREATE TABLE refills_figurechange (
        what text NOT NULL, day date NOT NULL, account_id bigint, service_id integer, settled_by_id bigint,
        bucket integer, n integer NOT NULL
    ) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 10000);

    -- The facts of a day: kind 'day' in all, 'hours' by how long it took, 'agent' by that and by the key, who settled it.
    CREATE TABLE refills_dayfigure (
        kind text NOT NULL, day date NOT NULL, key bigint NOT NULL, bucket integer NOT NULL,
        requested integer NOT NULL, completed integer NOT NULL, rejected integer NOT NULL,
        PRIMARY KEY (kind, day, key, bucket)
    );

    -- The facts of all days since the window began: kind 'account' or 'service', of which the key is.
    CREATE TABLE refills_recentfigure (
        kind text NOT NULL, key bigint NOT NULL,
        orders integer NOT NULL, refilled integer NOT NULL, completed integer NOT NULL, rejected integer NOT NULL,
        PRIMARY KEY (kind, key)
    ) WITH (fillfactor = 80);
    CREATE INDEX refills_recentfigure_most_settled ON refills_recentfigure ((completed + rejected) DESC, key)
        WHERE kind = 'account';

    -- One row at most: the first day that the two tables count. Without it they count every day.
    CREATE TABLE refills_figurewindow (
        one boolean PRIMARY KEY DEFAULT true CHECK (one), since date NOT NULL
    );
"""
# Transition tables of a statement, so that a batch is counted at once. What did not change cancels out.
TRIGGERS = """
    CREATE FUNCTION refills_count_refills() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        IF TG_OP = 'INSERT' THEN
            INSERT INTO refills_figurechange (what, day, account_id, service_id, settled_by_id, bucket, n)
            SELECT 'requested', refills_day(created_at), NULL, NULL, NULL, NULL, count(*) FROM later GROUP BY 2
            UNION ALL
            SELECT status, refills_day(settled_at), account_id, service_id, settled_by_id,
                refills_bucket(created_at, settled_at), 1
            FROM later WHERE settled_at IS NOT NULL
            UNION ALL  -- the first refill of an order; who inserts one has locked the order
            SELECT 'refilled', refills_day(bought.completed_at), later.account_id, later.service_id, NULL, NULL, 1
            FROM later CROSS JOIN LATERAL (
                SELECT completed_at FROM orders_order
                WHERE id = later.order_id AND status IN ('completed', 'partial') AND NOT EXISTS (
                    SELECT FROM refills_refill AS other
                    WHERE other.order_id = later.order_id AND other.number < later.number
                )
                LIMIT 1  -- so that it is looked up for each refill: a plan that reads the table would be kept
            ) AS bought;
        ELSIF TG_OP = 'UPDATE' THEN
            INSERT INTO refills_figurechange (what, day, account_id, service_id, settled_by_id, bucket, n)
            SELECT what, day, account_id, service_id, settled_by_id, bucket, sum(n)
            FROM (
                SELECT 'requested', refills_day(created_at), NULL::bigint, NULL::integer, NULL::bigint, NULL::integer, -1
                FROM earlier
                UNION ALL
                SELECT 'requested', refills_day(created_at), NULL, NULL, NULL, NULL, 1 FROM later
                UNION ALL
                SELECT status, refills_day(settled_at), account_id, service_id, settled_by_id,
                    refills_bucket(created_at, settled_at), -1
                FROM earlier WHERE settled_at IS NOT NULL
                UNION ALL
                SELECT status, refills_day(settled_at), account_id, service_id, settled_by_id,
                    refills_bucket(created_at, settled_at), 1
                FROM later WHERE settled_at IS NOT NULL
            ) AS change (what, day, account_id, service_id, settled_by_id, bucket, n)
            GROUP BY 1, 2, 3, 4, 5, 6 HAVING sum(n) <> 0;
        ELSE
            INSERT INTO refills_figurechange (what, day, account_id, service_id, settled_by_id, bucket, n)
            SELECT 'requested', refills_day(created_at), NULL, NULL, NULL, NULL, -count(*) FROM earlier GROUP BY 2
            UNION ALL
            SELECT status, refills_day(settled_at), account_id, service_id, settled_by_id,
                refills_bucket(created_at, settled_at), -1
            FROM earlier WHERE settled_at IS NOT NULL
            UNION ALL  -- orders of which no refill is left
            SELECT 'refilled', refills_day(completed_at), account_id, service_id, NULL, NULL, -1
            FROM orders_order
            WHERE status IN ('completed', 'partial') AND id IN (SELECT order_id FROM earlier)
                AND NOT EXISTS (SELECT FROM refills_refill AS other WHERE other.order_id = orders_order.id);
        END IF;
        RETURN NULL;
    END $$;

    CREATE FUNCTION refills_count_orders() RETURNS trigger LANGUAGE plpgsql AS $$
    DECLARE
        window_began date := coalesce((SELECT since FROM refills_figurewindow), '-infinity');
    BEGIN
        IF TG_OP = 'INSERT' THEN
            INSERT INTO refills_figurechange (what, day, account_id, service_id, n)
            SELECT 'ordered', refills_day(completed_at), account_id, service_id, count(*)
            FROM later WHERE status IN ('completed', 'partial') AND refills_day(completed_at) >= window_began
            GROUP BY 2, 3, 4;
        ELSIF TG_OP = 'UPDATE' THEN
            WITH moved (id, day, account_id, service_id, n) AS (
                SELECT id, day, account_id, service_id, sum(n)
                FROM (
                    SELECT id, refills_day(completed_at), account_id, service_id, -1
                    FROM earlier WHERE status IN ('completed', 'partial')
                    UNION ALL
                    SELECT id, refills_day(completed_at), account_id, service_id, 1
                    FROM later WHERE status IN ('completed', 'partial')
                ) AS change (id, day, account_id, service_id, n)
                WHERE day >= window_began
                GROUP BY 1, 2, 3, 4 HAVING sum(n) <> 0
            )
            INSERT INTO refills_figurechange (what, day, account_id, service_id, n)
            SELECT 'ordered', day, account_id, service_id, sum(n) FROM moved GROUP BY 2, 3, 4
            UNION ALL
            SELECT 'refilled', day, account_id, service_id, sum(n) FROM moved
            WHERE EXISTS (SELECT FROM refills_refill WHERE refills_refill.order_id = moved.id) GROUP BY 2, 3, 4;
        ELSE
            INSERT INTO refills_figurechange (what, day, account_id, service_id, n)
            SELECT 'ordered', refills_day(completed_at), account_id, service_id, -count(*)
            FROM earlier WHERE status IN ('completed', 'partial') AND refills_day(completed_at) >= window_began
            GROUP BY 2, 3, 4;
        END IF;
        RETURN NULL;
    END $$;
"""
TABLES_COUNTED = {"refills_refill": "refills_count_refills", "orders_order": "refills_count_orders"}
TRANSITIONS = {
    "INSERT": "NEW TABLE AS later",
    "UPDATE": "OLD TABLE AS earlier NEW TABLE AS later",
    "DELETE": "OLD TABLE AS earlier",
}


class Migration(migrations.Migration):
    dependencies = [("refills", "0015_old_dispatches"), ("orders", "0008_longest_refill_period")]

    operations = [
        migrations.RunSQL(
            FACTS,
            """
            DROP VIEW refills_figurefact;
            DROP FUNCTION refills_bucket(timestamptz, timestamptz);
            DROP FUNCTION refills_day(timestamptz);
            """,
        ),
        migrations.RunSQL(
            TABLES,
            "DROP TABLE refills_figurechange, refills_dayfigure, refills_recentfigure, refills_figurewindow",
        ),
        migrations.RunSQL(
            TRIGGERS, "DROP FUNCTION refills_count_refills() CASCADE; DROP FUNCTION refills_count_orders() CASCADE"
        ),
        *(
            migrations.RunSQL(
                f"""
                CREATE TRIGGER {function}_on_{event.lower()} AFTER {event} ON {table} REFERENCING {transition}
                FOR EACH STATEMENT EXECUTE FUNCTION {function}()
                """,
                migrations.RunSQL.noop,  # goes with its function
            )
            for table, function in TABLES_COUNTED.items()
            for event, transition in TRANSITIONS.items()
        ),
    ]
