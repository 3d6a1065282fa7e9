"""Record events for the endpoints of the accounts that they belong to, in the transaction in which they happen.

An app that has events writes a statement ``WITH happened AS (…), {DELIVERIES} SELECT count(*) FROM told``. An account
without endpoints then costs no more than a look at an index.
"""

from notpanel.kit import queue

DELIVER = "apikeys.tasks.deliver_webhooks"  # the task

# What follows ``happened``, whose rows have account_id, type, subject (uuid) and data (json). The parameters: ``now``
# is when it happened, ``send_at`` when it may be told. A paused endpoint gets its deliveries when it is resumed.
DELIVERIES = f"""
    told AS (
        INSERT INTO apikeys_webhookdelivery
            (endpoint_id, type, subject, body, created_at, state, next_at, attempts, answer, words)
        SELECT endpoint.id, happened.type, happened.subject,
            json_strip_nulls(json_build_object(
                'type', happened.type,
                'timestamp', to_char(%(now)s::timestamptz AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"'),
                'data', happened.data
            ))::text,
            %(now)s, 'waiting', %(send_at)s, 0, '', ''
        FROM happened JOIN apikeys_webhookendpoint AS endpoint
            ON endpoint.account_id = happened.account_id
            AND endpoint.state IN ('active', 'paused') AND happened.type = ANY(endpoint.events)
        RETURNING next_at
    ),
    woken AS ({queue.waking(DELIVER, "told")})
"""  # noqa: S608  # made of constants
