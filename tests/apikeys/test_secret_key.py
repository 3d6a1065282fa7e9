"""SECRET_KEY is replaced without signing anybody out, while several processes serve."""

import pytest
from django.contrib.auth.tokens import default_token_generator
from django.test import Client
from django.urls import reverse

from tests.conftest import new_customer

OLD, NEW = "o" * 50, "n" * 50
# The settings of a process at each of the steps in docs/operations.md.
STEPS = [(OLD, []), (OLD, [NEW]), (NEW, [OLD]), (NEW, [])]


@pytest.fixture
def at_step(settings):
    def at_step(number):
        settings.SECRET_KEY, settings.SECRET_KEY_FALLBACKS = STEPS[number]

    return at_step


def is_signed_in(client):
    return client.get(reverse("dashboard:overview"), secure=True).status_code == 200


@pytest.mark.parametrize("step", [0, 1])
def test_a_session_lasts_while_processes_are_at_two_steps(db, at_step, step):
    at_step(step)
    client = Client()
    client.force_login(new_customer().account)

    for now in (step, step + 1) * 3:
        at_step(now)
        assert is_signed_in(client)


def test_a_session_that_was_used_meanwhile_outlasts_the_old_key(db, at_step):
    at_step(1)
    used, unused = Client(), Client()
    for client in (used, unused):
        client.force_login(new_customer().account)
    at_step(2)
    assert is_signed_in(used)

    at_step(3)

    assert is_signed_in(used)
    assert not is_signed_in(unused)


def test_a_link_that_resets_a_password_still_works(db, at_step):
    account = new_customer().account
    at_step(1)
    token = default_token_generator.make_token(account)

    at_step(2)
    assert default_token_generator.check_token(account, token)
    at_step(3)
    assert not default_token_generator.check_token(account, token)
