"""The statements of the start page's figures, for ``refills.statistics``, which gives them their moments and limits.

Each reads the figures by day, what is not folded into them yet, and facts counted one by one (``refills.figures``).
"""

from refills.figures import SINCE

# Requests and settlements by day. Those dated later than now are counted in the figures, and taken away here.
BY_DAY = """
    SELECT day, sum(requested)::bigint, sum(completed)::bigint, sum(rejected)::bigint,
        (SELECT count(*) FROM refills_refill
            WHERE status = ANY(%(statuses)s) AND created_at >= %(week)s AND created_at < %(after_week)s),
        (SELECT count(*) FROM refills_refill
            WHERE status = ANY(%(statuses)s) AND created_at >= %(before)s AND created_at < %(after_before)s)
    FROM (
        SELECT day, requested, completed, rejected FROM refills_dayfigure WHERE kind = 'day'
        UNION ALL
        SELECT day, CASE what WHEN 'requested' THEN n ELSE 0 END, CASE what WHEN 'completed' THEN n ELSE 0 END,
            CASE what WHEN 'rejected' THEN n ELSE 0 END
        FROM refills_figurechange
        UNION ALL
        SELECT day, CASE what WHEN 'requested' THEN -n ELSE 0 END, CASE what WHEN 'completed' THEN -n ELSE 0 END,
            CASE what WHEN 'rejected' THEN -n ELSE 0 END
        FROM refills_figurefact WHERE what = ANY(%(of_refills)s) AND at >= %(now)s AND at < %(tomorrow)s
        UNION ALL  -- so that there is a row
        SELECT %(today)s, 0, 0, 0
    ) AS counted
    WHERE day BETWEEN %(first)s AND %(today)s
    GROUP BY day
"""

# Settled refills by period and bucket, then the exact times to settle at the wanted places: the figures say in which
# bucket each is, an index has the refills of that bucket. A period is whole days, plus or less the edges.
_TIMES = """
    , filled AS (
        SELECT name, bucket, sum(completed)::integer AS completed, sum(rejected)::integer AS rejected
        FROM counted GROUP BY 1, 2 HAVING sum(completed + rejected) > 0
    ),
    ranked AS (
        SELECT name, bucket, sum(completed + rejected) OVER (PARTITION BY name ORDER BY bucket) AS up_to FROM filled
    ),
    total AS (
        SELECT name, sum(completed) AS completed, sum(rejected) AS rejected,
            (sum(completed + rejected) - 1)::float8 AS last
        FROM filled GROUP BY 1
    ),
    wanted AS (
        SELECT name, completed, rejected, fraction, fraction * last - floor(fraction * last) AS share,
            floor(fraction * last) AS low, ceil(fraction * last) AS high
        FROM total CROSS JOIN unnest(%(fractions)s::float8[]) AS fraction
    )
    SELECT name, completed, rejected, fraction, low.took + (high.took - low.took) * share
    FROM wanted JOIN period USING (name)
        CROSS JOIN LATERAL (
            {took_at_low}
        ) AS low
        CROSS JOIN LATERAL (
            {took_at_high}
        ) AS high
"""
_TOOK_AT = """
            SELECT settled_at - created_at AS took
            FROM refills_refill
            WHERE status IN ('completed', 'rejected') AND settled_at >= starts AND settled_at < ends {condition}
                AND refills_bucket(created_at, settled_at) = (
                    SELECT bucket FROM ranked WHERE ranked.name = wanted.name AND up_to > {place}
                    ORDER BY bucket LIMIT 1
                )
            ORDER BY settled_at - created_at
            OFFSET {place} - coalesce((
                SELECT max(up_to) FROM ranked WHERE ranked.name = wanted.name AND up_to <= {place}
            ), 0)
            LIMIT 1
"""


def _times(condition: str) -> str:
    low, high = (_TOOK_AT.format(condition=condition, place=f"wanted.{place}") for place in ("low", "high"))
    return _TIMES.format(took_at_low=low, took_at_high=high)


# What the edges add to the periods. Each is a statement with its own moments, or the planner would read the table.
_EDGES = [
    f"""
        SELECT name, bucket, CASE what WHEN 'completed' THEN sign ELSE 0 END,
            CASE what WHEN 'rejected' THEN sign ELSE 0 END
        FROM refills_figurefact CROSS JOIN (VALUES {signs}) AS edge (name, sign)
        WHERE what = ANY(%(settled)s) AND at >= %({starts})s AND at < %({ends})s
    """
    for starts, ends, signs in (
        ("week", "after_week", "('week', 1), ('before', -1)"),
        ("before", "after_before", "('before', 1)"),
        ("month", "after_month", "('month', 1)"),
        ("now", "tomorrow", "('week', -1), ('month', -1)"),
    )
]
HOURS = f"""
    WITH period (name, starts, ends) AS (
        VALUES ('week', %(week)s::timestamptz, %(now)s::timestamptz), ('before', %(before)s, %(week)s),
            ('month', %(month)s, %(now)s)
    ),
    days (name, first, last) AS (
        VALUES ('week', %(week_first)s::date, %(today)s::date), ('before', %(before_first)s, %(before_last)s),
            ('month', %(first)s, %(today)s)
    ),
    counted AS (
        SELECT name, bucket, completed, rejected
        FROM refills_dayfigure JOIN days ON day BETWEEN first AND last WHERE kind = 'hours'
        UNION ALL
        SELECT name, bucket, CASE what WHEN 'completed' THEN n ELSE 0 END, CASE what WHEN 'rejected' THEN n ELSE 0 END
        FROM refills_figurechange JOIN days ON day BETWEEN first AND last WHERE what = ANY(%(settled)s)
        UNION ALL
        {" UNION ALL ".join(_EDGES)}
    )
    {_times("")}
"""

# A supplier settles in the name of its own account, and is no agent.
AGENTS = f"""
    WITH counted AS (
        SELECT settled.*
        FROM (
            SELECT key AS name, bucket, completed, rejected
            FROM refills_dayfigure WHERE kind = 'agent' AND day BETWEEN %(week_of_days)s AND %(today)s
            UNION ALL
            SELECT settled_by_id, bucket, CASE what WHEN 'completed' THEN n ELSE 0 END,
                CASE what WHEN 'rejected' THEN n ELSE 0 END
            FROM refills_figurechange
            WHERE what = ANY(%(settled)s) AND day BETWEEN %(week_of_days)s AND %(today)s
            UNION ALL
            SELECT settled_by_id, bucket, CASE what WHEN 'completed' THEN -n ELSE 0 END,
                CASE what WHEN 'rejected' THEN -n ELSE 0 END
            FROM refills_figurefact WHERE what = ANY(%(settled)s) AND at >= %(now)s AND at < %(tomorrow)s
        ) AS settled
        WHERE NOT EXISTS (SELECT FROM orders_supplier WHERE orders_supplier.account_id = settled.name)
    ),
    period AS (
        SELECT DISTINCT name, %(starts)s::timestamptz AS starts, %(now)s::timestamptz AS ends FROM counted
    )
    {_times("AND settled_by_id = wanted.name")}
"""

# What changes the figures of 30 days. Until a fold moves the window, the days that are over are counted one by one; so
# is what is dated later than now.
_CHANGE = f"""
    SELECT key::bigint, coalesce(sum(n) FILTER (WHERE what = 'ordered'), 0) AS orders,
        coalesce(sum(n) FILTER (WHERE what = 'refilled'), 0) AS refilled,
        coalesce(sum(n) FILTER (WHERE what = 'completed'), 0) AS completed,
        coalesce(sum(n) FILTER (WHERE what = 'rejected'), 0) AS rejected
    FROM (
        SELECT what, {{kind}}_id AS key, n FROM refills_figurechange WHERE what <> 'requested' AND day >= {SINCE}
        UNION ALL
        SELECT what, {{kind}}_id, -n FROM refills_figurefact
        WHERE what <> 'requested' AND at >= {SINCE}::timestamp AT TIME ZONE 'UTC' AND at < %(starts)s
        UNION ALL
        SELECT what, {{kind}}_id, -n FROM refills_figurefact WHERE what <> 'requested' AND at >= %(now)s
    ) AS changed
    GROUP BY 1
"""
# Orders and settled refills of 30 days by account or by service: figures that do not change, and those that do.
_RECENT = f"""
    WITH change AS MATERIALIZED ({_CHANGE})
    SELECT * FROM (
        (
            SELECT key, orders, refilled, completed, rejected FROM refills_recentfigure
            WHERE kind = '{{kind}}' AND key NOT IN (SELECT key FROM change) {{most_settled}}
        )
        UNION ALL
        SELECT key, coalesce(known.orders, 0) + change.orders, coalesce(known.refilled, 0) + change.refilled,
            coalesce(known.completed, 0) + change.completed, coalesce(known.rejected, 0) + change.rejected
        FROM change LEFT JOIN (SELECT * FROM refills_recentfigure WHERE kind = '{{kind}}') AS known USING (key)
    ) AS recent
"""
SCORECARD = f"""
    {_RECENT.format(kind="service", most_settled="")}
    WHERE orders >= %(least)s AND refilled > 0 OR completed + rejected >= %(least)s
    ORDER BY CASE WHEN orders >= %(least)s THEN refilled::float8 / orders ELSE 0 END DESC,
        completed + rejected DESC, key
    LIMIT %(longest)s
"""
_MOST_SETTLED = "ORDER BY completed + rejected DESC, key LIMIT %(candidates)s"  # as an index of the accounts has them
CANDIDATES = f"""
    SELECT username, orders, refilled, completed, rejected
    FROM (
        {_RECENT.format(kind="account", most_settled=_MOST_SETTLED)}
        WHERE completed + rejected >= %(least)s
        {_MOST_SETTLED}
    ) AS most JOIN apikeys_account ON apikeys_account.id = key
"""
