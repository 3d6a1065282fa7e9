"""A short form of ``python -m tests.hostile server``: whatever bytes come, the server answers in JSON, or closes."""

import random
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

from refills.models import Refill
from tests.hostile.requests import RAW_KEY, UNFINISHED, make_customer
from tests.hostile.sockets import Attack, problems
from tests.server import MARKS, Server

pytestmark = MARKS


def test_no_connection_gets_html_or_a_5xx_or_a_key_into_an_answer_or_the_log(transactional_db, tmp_path):
    make_customer()
    server = Server(tmp_path)
    chance, statuses = random.Random(), Counter()
    attacks = [Attack.draw(chance) for _ in range(600)]

    with ThreadPoolExecutor(4) as clients:
        found = list(clients.map(lambda attack: problems(attack, server.port, statuses), attacks))
    server.stop()

    assert [(attack, wrong) for attack, wrong in zip(attacks, found, strict=True) if wrong] == []
    assert RAW_KEY not in server.log
    assert "Traceback" not in server.log
    assert statuses[200] > 20  # some requests get as far as an action
    assert statuses[400] > 100
    assert not Refill.objects.filter(order__number=UNFINISHED).exists()
