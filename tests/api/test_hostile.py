"""A short form of ``python -m tests.hostile``: whatever comes, the answer is JSON, no 5xx, and no key is repeated."""

from collections import Counter

import pytest
from hypothesis import HealthCheck, Phase, given, settings

from tests.hostile.requests import RAW_KEY, REQUESTS, make_customer, problems


def test_no_request_gets_html_or_a_5xx_or_a_key_into_an_answer_or_the_log(db, settings_without_limits, log):
    make_customer()
    statuses = Counter()

    @settings(
        max_examples=2000,
        phases=[Phase.explicit, Phase.generate, Phase.shrink],
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(REQUESTS)
    def send(request):
        log.clear()
        assert problems(request, statuses) == []
        assert RAW_KEY not in log.text
        assert len(log.requests) == 1

    send()

    assert statuses[200] > 20  # some requests get as far as an action
    assert statuses[400] > 100
    assert statuses.total() >= 2000


@pytest.fixture
def settings_without_limits(settings):
    settings.RATE_LIMIT_IP, settings.RATE_LIMIT_KEYS = 10**9, dict.fromkeys(settings.RATE_LIMIT_KEYS, 10**9)
    settings.RATE_LIMIT_TIERS = dict.fromkeys(settings.RATE_LIMIT_TIERS, 10**9)
