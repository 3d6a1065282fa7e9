"""Reading the answers of suppliers, in every shape that real suppliers use."""

import json

import pytest

from refills.fake_supplier import ACCEPTS, HTML, NOTICE, REFUSES, WORDS
from refills.supplier_answers import (
    Accepted,
    Progress,
    Refused,
    Status,
    Unclear,
    read_json,
    read_refill,
    read_status,
    read_statuses,
)


@pytest.mark.parametrize(
    ("body", "value"),
    [
        (b'{"refill": "1"}', {"refill": "1"}),
        (b'\n  [{"refill": 1}]\n', [{"refill": 1}]),
        (b'\xef\xbb\xbf{"refill": 1}', {"refill": 1}),
        (NOTICE + b'{"refill": 1}', {"refill": 1}),
        (b"Notice: Array to string [8]\n" + b'{"refill": 1}\x00', {"refill": 1}),
        (b'{"refill": 1} and more', None),
        (b'{"refill": ', None),
        (b'"1"', None),
        (b"", None),
        (HTML, None),
        (b"\xff\xfe\x00", None),
        (b"[" * 100_000, None),
    ],
)
def test_json_is_found_after_what_php_writes_before_it(body, value):
    assert read_json(body) == value


@pytest.mark.parametrize("shape", ACCEPTS)
def test_an_accepted_refill_is_read_in_every_shape(shape):
    answer = read_refill(read_json(ACCEPTS[shape](4711)))

    assert isinstance(answer, Accepted)
    assert answer.refill == "4711"


@pytest.mark.parametrize("shape", REFUSES)
def test_a_refusal_is_read_in_every_shape(shape):
    assert read_refill(read_json(REFUSES[shape]("Refill days are over"))) == Refused("Refill days are over")


@pytest.mark.parametrize(
    "payload",
    [
        {"refill": 0},
        {"refill": "0"},
        {"refill": ""},
        {"refill": None},
        {"refill": True},
        {"refill": []},
        {"refill": {}},
        {"refill": "x" * 65},
        {"refill": "no, never"},
        {"status": "success"},
        {"refill": 5, "error": "Refill days are over"},
        {},
        [],
        [1],
    ],
)
def test_an_answer_that_says_neither_is_unclear(payload):
    answer = read_refill(payload)

    assert isinstance(answer, Unclear)
    assert answer.answered


@pytest.mark.parametrize(
    "payload", [{"error": "", "refill": 5}, {"error": False, "refill": 5}, {"error": None, "refill": 5.0}]
)
def test_an_empty_error_is_not_an_error(payload):
    assert read_refill(payload) == Accepted("5")


@pytest.mark.parametrize(
    ("payload", "words"),
    [
        ({"error": {"message": "No"}}, "No"),
        ({"errors": ["No", "never"]}, "No; never"),
        ({"status": "FAIL"}, '{"status": "FAIL"}'),
        ({"success": 0, "message": " No \n never "}, "No never"),
        ({"error": "a\x00b" + "x" * 1000}, ("ab" + "x" * 1000)[:500]),
    ],
)
def test_the_words_of_a_refusal_are_kept_as_one_line(payload, words):
    assert read_refill(json.loads(json.dumps({name.lower(): value for name, value in payload.items()}))) == Refused(
        words
    )


@pytest.mark.parametrize(
    ("progress", "word"),
    [(Progress[name.upper().replace(" ", "_")], word) for name, words in WORDS.items() for word in words],
)
def test_a_status_is_read_in_words_of_any_case(progress, word):
    answer = read_status({"status": word})

    assert isinstance(answer, Status)
    assert answer.progress == progress


def test_a_status_names_the_refill_and_the_reason():
    answer = read_status([{"Refill": 7, "Status": "Rejected", "Message": "Nothing dropped"}])

    assert answer == Status(Progress.REJECTED, "Rejected: Nothing dropped", "7")


@pytest.mark.parametrize(
    ("payload", "words"),
    [
        ({"error": "Refill not found"}, "Refill not found"),
        ({"status": "fail", "message": "Refill not found"}, "Refill not found"),
        ({"refill": 3, "status": {"error": "Refill not found"}}, "Refill not found"),
    ],
)
def test_a_status_that_is_not_given_is_a_refusal(payload, words):
    assert read_status(payload) == Refused(words)


def test_a_status_in_unknown_words_is_unclear():
    assert read_status({"status": "Moon phase"}) == Unclear('{"status": "Moon phase"}', answered=True)


@pytest.mark.parametrize(
    "payload",
    [
        [{"refill": 1, "status": "Completed"}, {"refill": "2", "status": {"error": "Refill not found"}}, {"refill": 9}],
        {"1": {"status": "Completed"}, "2": {"error": "Refill not found"}},
        {"data": [{"refill": 1, "status": "Completed"}, {"refill": 2, "error": "Refill not found"}]},
        {"1": "Completed", "2": {"error": "Refill not found"}},
    ],
)
def test_statuses_are_read_by_the_ids_of_the_refills(payload):
    assert read_statuses(payload, ["1", "2", "3"]) == {
        "1": Status(Progress.COMPLETED, "Completed", "1" if "refill" in str(payload) and _is_list(payload) else ""),
        "2": Refused("Refill not found"),
    }


def _is_list(payload):
    return isinstance(payload, list) or "data" in payload


def test_a_supplier_that_takes_no_list_refuses_it():
    assert read_statuses({"error": "Incorrect request"}, ["1", "2"]) == Refused("Incorrect request")
