-- The statements of a refill request alone, for pgbench: what PostgreSQL can do at most on this machine.
-- The options -D digest, step and share are required. Each client has its own share of the orders, which are every
-- step-th number.
\set turn :turn + 1
\set number 1 + :step * (:client_id * :share + :turn - 1)
SELECT k.id AS api_key, k.prefix, k.limit_per_minute, k.last_used_at, k.account_id AS account, a.tier, a.is_active
FROM apikeys_apikey k JOIN apikeys_account a ON a.id = k.account_id
WHERE k.digest = :digest AND k.revoked_at IS NULL
\gset
BEGIN;
SELECT o.id AS order_id, o.number, o.account_id, o.service_id AS service, o.status, o.completed_at,
    s.refill, s.refill_days, s.refill_limit
FROM orders_order o JOIN orders_service s ON s.id = o.service_id
WHERE o.account_id = :account AND o.number = :number ORDER BY o.id FOR UPDATE OF o
\gset
SELECT order_id AS earlier, count(*) FILTER (WHERE status IN ('pending', 'approved')) AS in_flight,
    count(*) FILTER (WHERE status <> 'rejected') AS used
FROM refills_refill WHERE order_id = :order_id GROUP BY order_id
\gset
INSERT INTO refills_refill (id, order_id, account_id, service_id, api_key_id, status, created_at, note)
VALUES (
    (lpad(to_hex((extract(epoch FROM now()) * 1000)::bigint), 12, '0') || substr(md5(random()::text), 1, 20))::uuid,
    :order_id, :account, :service, :api_key, 'pending', now(), ''
)
RETURNING number;
COMMIT;
