"""The codes of errors are for programs, and never change (docs/contract.md, "Transport")."""

import pytest
from django.test import Client

from notpanel.api.errors import SHARED_ERRORS, NotFound
from notpanel.urls import ACTIONS
from tests import factories
from tests.conftest import FORM, post

CODES = {
    "account_suspended",
    "both_given",
    "body_too_large",
    "headers_too_large",
    "internal_server_error",
    "invalid_api_key",
    "invalid_cursor",
    "invalid_request_id",
    "invalid_webhook_url",
    "key_is_read_only",
    "malformed_body",
    "malformed_request",
    "method_not_allowed",
    "missing_parameter",
    "not_found",
    "no_refill_requested",
    "order_not_delivered",
    "order_not_found",
    "parameter_repeated",
    "rate_limit_exceeded",
    "refill_already_pending",
    "refill_limit_reached",
    "refill_not_found",
    "refill_period_expired",
    "service_not_refillable",
    "service_unavailable",
    "request_id_used",
    "several_given",
    "too_many",
    "unknown_action",
    "unknown_host",
    "unknown_status",
    "unsupported_content_encoding",
    "unsupported_media_type",
    "unsupported_transfer_encoding",
    "unknown_webhook_event",
    "webhook_exists",
    "webhook_limit_reached",
    "webhook_not_found",
}


def test_no_code_ever_changes():
    assert {error.code() for action in ACTIONS for error in (*action.errors, *SHARED_ERRORS, NotFound)} == CODES


@pytest.mark.parametrize(
    ("parameters", "code"),
    [
        ({}, "missing_parameter"),
        ({"action": "nonsense"}, "unknown_action"),
        ({"action": "refill", "order": "1"}, "order_not_found"),
        ({"action": "refill", "order": "1", "orders": "1"}, "both_given"),
        ({"action": "refill_status", "refill": "1"}, "refill_not_found"),
        ({"action": "status", "orders": "1," * 101}, "too_many"),
    ],
)
def test_an_error_answer_has_its_code(customer, parameters, code):
    response = customer.post(**parameters)

    assert response.status_code == 400
    assert response["X-Error-Code"] == code
    assert list(response.json()) == ["error"]


def test_every_other_error_has_its_code(customer, settings, monkeypatch):
    assert post(key="x")["X-Error-Code"] == "invalid_api_key"
    assert Client().get("/api/v2")["X-Error-Code"] == "method_not_allowed"
    assert Client().get("/api/v3")["X-Error-Code"] == "not_found"
    assert Client().post("/api/v2", "x" * 70_000, content_type=FORM)["X-Error-Code"] == "body_too_large"
    settings.RATE_LIMIT_IP = 1
    customer.post("services")
    assert customer.post("services")["X-Error-Code"] == "rate_limit_exceeded"


def test_an_error_that_a_middleware_finds_has_its_code(db, monkeypatch):
    def fail(*args):
        raise RuntimeError("broken")

    monkeypatch.setattr("django.middleware.common.CommonMiddleware.process_request", fail)

    response = Client(raise_request_exception=False).post("/api/v2", "key=x", content_type=FORM)

    assert (response.status_code, response["X-Error-Code"]) == (500, "internal_server_error")


def test_a_success_has_no_code(customer):
    order = factories.Order(account=customer.account)

    assert "X-Error-Code" not in customer.post("status", order=order.pk)
    assert "X-Error-Code" not in customer.post("status", orders="nonsense")


@pytest.mark.parametrize(
    ("parameters", "sent", "error", "code"),
    [
        ({"action": "refill", "orders": "x"}, {"order": "x"}, "Order not found", "order_not_found"),
        ({"action": "refill_status", "refills": "x"}, {"refill": "x"}, "Refill not found", "refill_not_found"),
        ({"action": "status", "orders": "x"}, {}, "Order not found", "order_not_found"),
    ],
)
def test_a_refused_row_of_a_batch_has_its_code_if_asked(customer, parameters, sent, error, code):
    def row(**more):
        answer = customer.post(**parameters, **more).json()
        return answer[0] if sent else answer["x"]

    assert row(codes="1") == sent | {"error": error, "code": code}
    assert row() == row(codes="0") == sent | {"error": error}


def test_a_row_with_an_answer_has_no_code(customer):
    order = factories.Order(account=customer.account)

    [row] = customer.post("refill", orders=order.pk, codes="1").json()

    assert list(row) == ["order", "refill"]


def test_the_answer_about_a_single_id_has_its_code_in_the_header_alone(customer):
    response = customer.post("refill", order="x", codes="1")

    assert response.json() == {"error": "Order not found"}
    assert response["X-Error-Code"] == "order_not_found"
