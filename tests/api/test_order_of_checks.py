"""Requests are judged in the order of docs/contract.md, "The order in which a request is judged"."""

from datetime import UTC, datetime

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client

from apikeys.keys import revoke_api_key
from apikeys.models import ApiKey
from notpanel.api import errors
from notpanel.urls import ACTIONS
from tests import factories
from tests.conftest import post, post_json


def answer(response):
    return response.status_code, response.json()


@pytest.mark.parametrize("key", [None, "", "np_short", "np_" + "x" * 43, "x" * 5000, "np_" + "é" * 43, "\x00"])
def test_a_key_that_is_missing_or_unknown_is_invalid(db, key):
    parameters = {} if key is None else {"key": key}

    assert answer(post(action="services", **parameters)) == (401, {"error": "Invalid API key"})


@pytest.mark.parametrize("key", [None, 5, ["x"], {"a": 1}, True, "\ud800"])
def test_a_key_that_is_not_text_is_invalid(db, key):
    assert answer(post_json({"key": key, "action": "services"})) == (401, {"error": "Invalid API key"})


def test_an_uploaded_file_whose_name_is_a_key_is_not_a_key(customer):
    response = Client().post("/api/v2", {"key": SimpleUploadedFile(customer.raw_key, b"x"), "action": "services"})

    assert answer(response) == (401, {"error": "Invalid API key"})


def test_a_revoked_key_is_invalid(customer):
    revoke_api_key(customer.api_key)

    assert answer(customer.post("services")) == (401, {"error": "Invalid API key"})


def test_a_suspended_account_gets_an_error_of_its_own(customers):
    assert answer(customers(is_active=False).post("services")) == (403, {"error": "Account suspended"})


def test_a_revoked_key_of_a_suspended_account_is_invalid(customers):
    customer = customers(is_active=False)
    revoke_api_key(customer.api_key)

    assert answer(customer.post("services")) == (401, {"error": "Invalid API key"})


def test_the_action_is_required(customer):
    assert answer(customer.post()) == (400, {"error": "Missing required parameter: action"})
    assert answer(customer.post("")) == (400, {"error": "Missing required parameter: action"})


@pytest.mark.parametrize("action", ["add", "Refill", "refills", "__class__", "\x00"])
def test_an_action_that_does_not_exist_is_unknown(customer, action):
    assert answer(customer.post(action)) == (400, {"error": "Unknown action"})


def test_blanks_around_the_action_are_dropped(customer):
    assert customer.post(" services ").status_code == 200


BOTH = {"refill_status": "Provide only one of refill, refills, order or orders"}
IDS = [
    ("refill", "order", "orders"),
    ("refill_check", "order", "orders"),
    ("status", "order", "orders"),
    ("refill_status", "refill", "refills"),
]


@pytest.mark.parametrize(("action", "one", "many"), IDS)
class TestIds:
    def test_an_id_or_a_list_is_required(self, customer, action, one, many):
        expected = (400, {"error": f"Missing required parameter: {one}"})

        assert answer(customer.post(action)) == expected
        assert answer(customer.post(action, **{one: ""})) == expected
        assert answer(customer.post(action, **{one: "  "})) == expected

    def test_an_empty_list_counts_as_missing(self, customer, action, one, many):
        assert answer(customer.post(action, **{many: " , ,"})) == (
            400,
            {"error": f"Missing required parameter: {many}"},
        )

    def test_an_id_and_a_list_together_are_refused(self, customer, action, one, many):
        assert answer(customer.post(action, **{one: "1", many: "2"})) == (
            400,
            {"error": BOTH.get(action, f"Provide either {one} or {many}, not both")},
        )

    def test_an_empty_id_next_to_a_list_is_ignored(self, customer, action, one, many):
        assert customer.post(action, **{one: "", many: "2"}).status_code == 200

    def test_an_empty_list_next_to_an_id_is_ignored(self, customer, action, one, many):
        assert answer(customer.post(action, **{one: "2", many: ","}))[1]["error"].endswith(" not found")

    def test_a_hundred_ids_are_accepted(self, customer, action, one, many):
        ids = " , ".join(str(n) for n in range(1, 101)) + ",,"

        response = customer.post(action, **{many: ids})

        assert response.status_code == 200
        assert len(response.json()) == 100

    def test_more_than_a_hundred_ids_are_refused(self, customer, action, one, many):
        ids = ",".join(str(n) for n in range(1, 102))

        assert answer(customer.post(action, **{many: ids})) == (400, {"error": f"Too many {many} (100 at most)"})


def test_the_key_is_judged_before_the_action_and_the_action_before_parameters(customer, customers):
    assert post(key="np_", action="nonsense").json() == {"error": "Invalid API key"}
    assert customers(is_active=False).post("nonsense").json() == {"error": "Account suspended"}
    assert customer.post("nonsense", order="1", orders="1").json() == {"error": "Unknown action"}


def test_the_key_limit_is_judged_before_the_action(customer):
    ApiKey.objects.update(limit_per_minute=1)
    customer.post("services")

    assert customer.post("nonsense").json() == {"error": "Rate limit exceeded"}


def test_the_use_of_a_key_is_recorded_at_most_once_a_minute(customer, time_machine, django_assert_num_queries):
    factories.Service()
    time_machine.move_to(datetime(2026, 5, 1, 12, 0, 0, tzinfo=UTC), tick=False)
    customer.post("services")
    time_machine.move_to(datetime(2026, 5, 1, 12, 0, 59, tzinfo=UTC), tick=False)
    with django_assert_num_queries(2):  # the key, the version of the catalogue
        customer.post("services")
    assert ApiKey.objects.get().last_used_at == datetime(2026, 5, 1, 12, 0, 0, tzinfo=UTC)

    time_machine.move_to(datetime(2026, 5, 1, 12, 1, 0, tzinfo=UTC), tick=False)
    with django_assert_num_queries(3):
        customer.post("services")

    assert ApiKey.objects.get().last_used_at == datetime(2026, 5, 1, 12, 1, 0, tzinfo=UTC)


def test_every_error_has_a_text_a_cause_and_a_status():
    raised = {error for action in ACTIONS for error in action.errors}
    own = {error for error in vars(errors).values() if isinstance(error, type) and issubclass(error, errors.ApiError)}

    for error in (raised | own | set(errors.SHARED_ERRORS)) - {errors.ApiError}:
        assert error.message.format(**error.example)
        assert error.cause.endswith(".")
        assert 400 <= errors.status_of(error) < 600
