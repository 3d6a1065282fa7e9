"""Request a refill of each order in a file, once, and keep the fate of every refill.

    API_URL=https://…/api/v2 API_KEY=np_… python3 bot.py orders.txt bot.db     every minute

The file has ids of orders as the API writes them (ord_…). Orders that have had a refill are left alone. The bot does
not try again: any error ends it, as kill -9 does, and its next run goes on from bot.db. If refill_list says
"Invalid cursor", our database was restored: delete the row of the table list, and the bot reads the list anew.
"""

import json
import os
import re
import sqlite3
import sys
import time
import uuid
from pathlib import Path
from urllib.parse import urlencode
from urllib.request import urlopen

db = sqlite3.connect(sys.argv[2], timeout=0)  # a second bot ends here: the lock is held as long as the first one runs
db.executescript("""
    PRAGMA locking_mode = EXCLUSIVE;
    BEGIN EXCLUSIVE;
    CREATE TABLE IF NOT EXISTS refills (id PRIMARY KEY, "order", status, reason);
    CREATE TABLE IF NOT EXISTS list (id PRIMARY KEY, cursor);
    CREATE TABLE IF NOT EXISTS batch (request_id, orders, at);
    COMMIT;
""")


def ask(action, **parameters):
    body = urlencode({"key": os.environ["API_KEY"], "action": action, **parameters})
    with urlopen(os.environ["API_URL"], body.encode(), timeout=60) as answer:
        return json.load(answer)


def learn_fates():
    more = True
    while more:
        [cursor] = db.execute("SELECT coalesce(max(cursor), '') FROM list").fetchone()
        page = ask("refill_list", cursor=cursor)
        changed = [{"reason": None, **row} for row in page["refills"]]
        with db:  # the page and the cursor behind it together
            db.executemany("REPLACE INTO refills VALUES (:refill, :order, :status, :reason)", changed)
            db.execute("REPLACE INTO list VALUES (1, ?)", [page["next"]])
        more = page["more"]


def send_batch():
    for request_id, orders, at in db.execute("SELECT * FROM batch").fetchall():
        # An answer is kept for 24 hours. After that, ask what was requested: refill_status ignores the request_id.
        action = "refill" if time.time() - at < 23 * 3600 else "refill_status"
        rows = ask(action, orders=orders, request_id=request_id)
        made = [row for row in rows if "refill" in row]
        with db:
            db.executemany("INSERT OR IGNORE INTO refills VALUES (:refill, :order, 'pending', NULL)", made)
            db.execute("DELETE FROM batch")


learn_fates()
send_batch()  # what a killed bot was about to request, or has requested
refilled = {order for [order] in db.execute('SELECT "order" FROM refills')}
wanted = sorted(set(re.findall("ord_[0-9A-Z]{26}", Path(sys.argv[1]).read_text())) - refilled)
for hundred in (wanted[start : start + 100] for start in range(0, len(wanted), 100)):
    checks = ask("refill_check", orders=",".join(hundred))
    if accepted := [row["order"] for row in checks if row.get("refillable")]:
        with db:  # before it is sent, so that the next run sends the very same
            db.execute("INSERT INTO batch VALUES (?, ?, ?)", [str(uuid.uuid4()), ",".join(accepted), time.time()])
        send_batch()
