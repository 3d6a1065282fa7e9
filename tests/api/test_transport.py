"""How requests come in and answers go out (docs/contract.md, "Transport")."""

import io
import json
import re
import sys
from urllib.parse import unquote_to_bytes

import psycopg
import pytest
import redis
from django.core.exceptions import DisallowedHost, SuspiciousOperation
from django.core.handlers.wsgi import WSGIRequest
from django.core.signals import got_request_exception
from django.db import DatabaseError, DataError, InterfaceError, OperationalError
from django.http import HttpResponse
from django.test import Client
from rest_framework.exceptions import MethodNotAllowed
from rest_framework.renderers import JSONRenderer

from notpanel.api import errors
from notpanel.api.exceptions import as_refusal
from notpanel.api.parameters import LARGEST_BATCH
from notpanel.api.view import LARGEST_BODY
from notpanel.kit.refusals import ServiceUnavailable
from notpanel.middleware import log_requests
from notpanel.wsgi import application
from tests import factories
from tests.conftest import FORM, post_json
from tests.wsgi import call, wsgi_environ


def as_server_reads(path):
    """Return a path as an application server passes it. Django's client would read ``//api`` as a host."""
    return unquote_to_bytes(path).decode("latin-1")


@pytest.fixture
def order(customer):
    return factories.Order(account=customer.account)


ADDRESSES = [
    "/api/v2",
    "/api/v2/",
    "//api/v2",
    "//api//v2//",
    "///api/v2",
    "/API/V2",
    "/Api/v2/",
    "//API/V2/",
    "/./api/v2",
]


@pytest.mark.parametrize("path", ADDRESSES)
def test_every_spelling_of_the_address_is_served_directly(customer, order, path):
    body = f"key={customer.raw_key}&action=status&order={order.pk}"

    response = Client().post("/", body, content_type=FORM, PATH_INFO=path)

    assert response.status_code == 200
    assert response.json()["status"] == "completed"


def test_multipart_is_read(customer, order):
    response = Client().post("/api/v2", {"key": customer.raw_key, "action": "status", "order": order.pk})

    assert response.json()["status"] == "completed"


def test_a_body_without_a_content_type_is_read_as_a_form(customer, order):
    body = f"key={customer.raw_key}&action=status&order={order.pk}"

    assert Client().post("/api/v2", body, content_type="").json()["status"] == "completed"


@pytest.mark.parametrize(
    "content_type", ["Application/JSON", "application/json; charset=utf-8", "application/json ;x=y"]
)
def test_a_media_type_is_read_in_any_case_and_without_its_parameters(customer, content_type):
    body = json.dumps({"key": customer.raw_key, "action": "services"})

    assert Client().generic("POST", "/api/v2", body, content_type=content_type).status_code == 200


def test_json_is_read_and_its_scalars_are_text(customer, order):
    response = post_json({"key": customer.raw_key, "action": "status", "order": order.number})

    assert response.json()["status"] == "completed"


@pytest.mark.parametrize("orders", ["{0},{1}", ["{0}", "{1}"], "list of numbers"])
def test_a_batch_in_json_may_be_a_csv_or_a_list(customer, order, orders):
    other = factories.Order(account=customer.account)
    ids = [str(order.number), str(other.number)]
    if orders == "list of numbers":
        orders = [order.number, other.number]
    elif isinstance(orders, list):
        orders = ids
    else:
        orders = orders.format(*ids)

    response = post_json({"key": customer.raw_key, "action": "refill", "orders": orders})

    assert [row["order"] for row in response.json()] == (orders if isinstance(orders, list) else ids)
    assert all(row["refill"].startswith("ref_") for row in response.json())


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        (b"{", "application/json"),
        (b"[]", "application/json"),
        (b'"key"', "application/json"),
        (b"\xff\xfe", "application/json"),
        (b"{'key': 1}", "application/json"),
        (b'{"key": 1', FORM),
        (b"key=x", "application/json"),
        (b"[" * 60_000, "application/json"),
        (b'{"key": NaN}', "application/json"),
        (b"{" + b'"key": ' + b"1" * 5000 + b"}", "application/json"),
        (b"key=x", "multipart/form-data"),
        (b"key=x", "multipart/form-data; boundary=\xc3\xa9"),
        ("&".join(f"a{n}=1" for n in range(3000)).encode(), FORM),
    ],
)
def test_a_body_that_cannot_be_parsed_is_malformed(db, body, content_type):
    response = Client().generic("POST", "/api/v2", body, content_type=content_type)

    assert (response.status_code, response.json()) == (400, {"error": "Malformed request body"})


@pytest.mark.parametrize("value", [{"id": 1}, [["x"]], [{"id": 1}]])
@pytest.mark.parametrize("name", ["order", "orders"])
def test_a_parameter_that_is_not_text_is_malformed(customer, name, value):
    response = post_json({"key": customer.raw_key, "action": "refill", name: value})

    assert (response.status_code, response.json()) == (400, {"error": "Malformed request body"})


def test_an_uploaded_file_as_a_parameter_is_malformed(customer):
    upload = {"key": customer.raw_key, "action": "refill", "order": open(__file__)}  # noqa: SIM115

    response = Client().post("/api/v2", upload)

    assert (response.status_code, response.json()) == (400, {"error": "Malformed request body"})


@pytest.mark.parametrize("content_type", ["text/plain", "application/xml", "garbage"])
def test_other_media_types_are_not_supported(db, content_type):
    response = Client().post("/api/v2", "key=x", content_type=content_type)

    assert (response.status_code, response.json()) == (415, {"error": "Unsupported media type"})


@pytest.mark.parametrize("missing", [1, 3])
def test_a_body_that_was_cut_off_is_malformed(db, missing):
    body = b"key=x&action=status&order=12345"

    answer = application(wsgi_environ(body, CONTENT_LENGTH=str(len(body) + missing)), lambda status, headers: None)

    assert json.loads(b"".join(answer)) == {"error": "Malformed request body"}


def test_a_body_whose_client_hangs_up_is_malformed(db):
    class HungUp(io.BytesIO):
        def read(self, *args):
            raise ConnectionResetError

    answer = application(wsgi_environ(b"key=x") | {"wsgi.input": HungUp()}, lambda status, headers: None)

    assert json.loads(b"".join(answer)) == {"error": "Malformed request body"}


@pytest.mark.parametrize("coding", ["chunked", "Chunked", "gzip, CHUNKED"])
@pytest.mark.parametrize(
    ("size", "read", "length"), [(100, 100, 100), (2**20, 2**20, 2**20), (2**20 + 2, 2**20 + 1, 10**18 - 1)]
)
def test_a_chunked_body_gets_a_content_length(monkeypatch, coding, size, read, length):
    """axios sends multipart forms without a Content-Length. A body that is too long gets a length that is refused."""
    monkeypatch.setattr("notpanel.wsgi.django_application", lambda environ, start_response: [environ])
    environ = wsgi_environ(b"x" * size, HTTP_TRANSFER_ENCODING=coding)
    del environ["CONTENT_LENGTH"]

    [served] = application(environ, None)

    assert served["CONTENT_LENGTH"] == str(length)
    assert served["wsgi.input"].read() == b"x" * read


@pytest.mark.parametrize("extra", [{"HTTP_TRANSFER_ENCODING": "chunked"}, {}])
def test_a_body_with_a_content_length_is_left_alone(monkeypatch, extra):
    monkeypatch.setattr("notpanel.wsgi.django_application", lambda environ, start_response: [environ])
    environ = wsgi_environ(b"xyz", CONTENT_LENGTH="2", **extra)

    [served] = application(dict(environ), None)

    assert served == environ


def test_a_body_of_64_kib_is_read(db):
    response = Client().post("/api/v2", "key=" + "x" * (64 * 1024 - 4), content_type=FORM)

    assert response.status_code == 401


def test_a_larger_body_is_refused(db):
    response = Client().post("/api/v2", "key=" + "x" * (64 * 1024 - 3), content_type=FORM)

    assert (response.status_code, response.json()) == (413, {"error": "Request body too large"})


def test_a_full_batch_of_the_longest_ids_fits(customer):
    ids = [f"{n:064}" for n in range(1, LARGEST_BATCH + 1)]

    response = customer.post("refill", orders=",".join(ids))

    assert response.status_code == 200
    assert len(response.json()) == LARGEST_BATCH


@pytest.mark.parametrize("method", ["get", "put", "patch", "delete", "options", "head"])
def test_only_post_is_allowed(db, method):
    response = getattr(Client(), method)("/api/v2")

    assert response.status_code == 405
    assert response["Allow"] == "POST"
    if method != "head":
        assert response.json() == {"error": "Method not allowed"}


OTHER_ADDRESSES = [
    "/api",
    "/api/",
    "/api/v1",
    "/api/v2/refill",
    "//api",
    "/API/",
    "/Api/v3",
    "///api//x//",
    "/x/../api/",
]
OTHER_ADDRESSES += [
    "/api.json",
    "/api;v2",
    "/api\\v2",
    "/api%20",
    "/api%00/v2",
    "/api/v2%20",
    "/api/../admin/",
    "/./api",
]


@pytest.mark.parametrize("path", OTHER_ADDRESSES)
@pytest.mark.parametrize("method", ["get", "post", "head", "options", "propfind"])
def test_other_addresses_are_not_found_in_json(db, path, method):
    response = Client().generic(method.upper(), "/", PATH_INFO=as_server_reads(path))

    assert response.status_code == 404
    assert response["Content-Type"] == "application/json"
    assert response["X-Error-Code"] == "not_found"
    if method != "head":
        assert response.json() == {"error": "Not found"}


@pytest.mark.parametrize("path", ["/apiv2", "/api-docs", "/api_v2", "/developers/api/", "/xapi/v2"])
def test_an_address_that_only_begins_alike_is_a_page(db, path):
    assert Client().get(path)["Content-Type"].startswith("text/html")


@pytest.mark.parametrize("path", ["/api", "/api/", "/api/v2", "//API/v2", "/api/openapi.json"])
@pytest.mark.parametrize(
    "host", ["evil.example", "évil", "", "testserver:x", "a b", "testserver, evil", "[::1", "x" * 9000]
)
@pytest.mark.parametrize("tls", [False, True])
def test_a_host_that_is_not_ours_is_refused_in_json_and_in_one_log_line(db, settings, log, path, host, tls):
    settings.SECURE_SSL_REDIRECT = tls

    response = Client().post("/", "key=x", content_type=FORM, headers={"host": host}, PATH_INFO=path)

    assert (response.status_code, response.json()) == (421, {"error": "Unknown host"})
    assert response["X-Error-Code"] == "unknown_host"
    assert response["X-Request-ID"]
    assert response["X-Content-Type-Options"] == "nosniff"
    [line] = log.requests
    assert (line["path"], line["status"]) == (path.lower().replace("//", "/"), 421)
    assert {record["logger"] for record in log.records()} <= {"notpanel.request_log", "notpanel.security"}


@pytest.mark.parametrize("accept", ["text/html", "application/xml", "garbage", ""])
def test_answers_are_json_whatever_the_client_accepts(db, accept):
    response = Client().post("/api/v2?format=html", "key=x", content_type=FORM, headers={"accept": accept})

    assert response.status_code == 401
    assert response["Content-Type"] == "application/json"


def test_a_key_in_the_query_string_or_a_header_is_ignored(customer):
    response = Client().post(
        f"/api/v2?key={customer.raw_key}",
        "action=services",
        content_type=FORM,
        headers={"authorization": f"Bearer {customer.raw_key}", "x-api-key": customer.raw_key},
    )

    assert (response.status_code, response.json()) == (401, {"error": "Invalid API key"})


def test_half_a_surrogate_pair_is_echoed(customer):
    response = post_json({"key": customer.raw_key, "action": "status", "orders": ["\ud800"]})

    assert response.status_code == 200
    assert response.json() == {"\ud800": {"error": "Order not found"}}


# ---- Request ids and the log


def test_a_sane_request_id_is_kept_and_logged(customer, log):
    response = Client().post(
        "/api/v2",
        f"key={customer.raw_key}&action=services",
        content_type=FORM,
        headers={"x-request-id": "shop-42:7.a_b"},
    )

    [request] = log.requests
    assert response["X-Request-ID"] == request["request_id"] == "shop-42:7.a_b"


@pytest.mark.parametrize(
    "sent",
    [
        *("", "x" * 65, "a b", "é", "a\tb", "-x"),
        *("np_" + "x" * 43, "a:np_" + "x" * 8, "whsec_" + "x" * 40, "x:dil11w-" + "0123456789abcdef" * 2),
    ],
)
def test_any_other_request_id_is_replaced(db, sent):
    response = Client().post("/api/v2", "", content_type=FORM, headers={"x-request-id": sent})

    assert re.fullmatch("[0-9a-f]{32}", response["X-Request-ID"])


# ---- Failures on our side


@pytest.fixture
def broken(monkeypatch):
    def set_error(error):
        def raise_error(*args, **kwargs):
            raise error

        monkeypatch.setattr("orders.models.Catalogue.objects.values_list", raise_error)

    return set_error


@pytest.mark.parametrize("debug", [False, True])
def test_a_bug_is_a_500_without_details(customer, broken, settings, debug):
    settings.DEBUG = debug
    broken(RuntimeError("SELECT secret FROM apikeys"))

    response = Client(raise_request_exception=False).post(
        "/api/v2", f"key={customer.raw_key}&action=services", content_type=FORM
    )

    assert (response.status_code, response.json()) == (500, {"error": "Internal server error"})
    assert response["X-Request-ID"]


@pytest.fixture
def reported():
    """The exceptions that are reported to error trackers."""
    found = []

    def receive(request, **kwargs):
        found.append((sys.exc_info()[0], request.META["PATH_INFO"], request.sensitive_post_parameters))

    got_request_exception.connect(receive)
    yield found
    got_request_exception.disconnect(receive)


def test_a_bug_is_reported_and_logged_with_its_traceback(customer, broken, reported, log):
    broken(RuntimeError("broken"))

    Client(raise_request_exception=False).post("/api/v2", f"key={customer.raw_key}&action=services", content_type=FORM)

    assert reported == [(RuntimeError, "/api/v2", "__ALL__")]  # a report shows no parameter
    [record] = log.records("notpanel.api.exceptions")
    assert (record["level"], record["event"]) == ("error", "RuntimeError: Internal server error")
    assert record["exception"].startswith("Traceback")


@pytest.mark.parametrize(
    "error", [OperationalError("could not connect to server"), InterfaceError("closed"), redis.ConnectionError("gone")]
)
def test_a_request_gets_503_when_the_database_does_not_answer(customer, broken, reported, log, error):
    broken(error)

    response = customer.post("services")

    assert (response.status_code, response.json()) == (503, {"error": "Service temporarily unavailable"})
    assert response["Retry-After"] == "1"
    assert reported == []
    assert f"{type(error).__name__}: Service temporarily unavailable" in log.text
    assert "Traceback" in log.text


def test_a_refusal_is_neither_reported_nor_logged_as_an_error(customer, reported, log):
    customer.post("nonsense")

    assert reported == []
    assert {record["level"] for record in log.records()} == {"info"}


@pytest.mark.parametrize(
    ("raised", "refusal"),
    [
        (errors.BodyTooLarge(), errors.BodyTooLarge),
        (MethodNotAllowed("GET"), errors.MethodNotAllowed),
        (errors.UnsupportedMediaType(), errors.UnsupportedMediaType),
        (SuspiciousOperation(), errors.MalformedBody),
        (DisallowedHost(), errors.UnknownHost),
        (OperationalError(), ServiceUnavailable),
        (InterfaceError(), ServiceUnavailable),
        (redis.TimeoutError(), ServiceUnavailable),
        (DatabaseError(), errors.InternalServerError),
        (DataError(), errors.InternalServerError),
        (psycopg.OperationalError(), errors.InternalServerError),  # not from one of Django's connections, which wrap it
        (KeyError(), errors.InternalServerError),
    ],
)
def test_each_exception_becomes_the_right_error(raised, refusal):
    assert type(as_refusal(raised)) is refusal


def test_the_limits_in_the_causes_are_those_of_the_code():
    assert f"{LARGEST_BODY // 1024} KiB" in errors.BodyTooLarge.cause
    assert errors.TooMany.example["limit"] == LARGEST_BATCH


@pytest.mark.parametrize("debug", [False, True])
def test_a_failing_middleware_is_a_500_in_json(db, settings, monkeypatch, debug):
    settings.DEBUG = debug

    def fail(*args):
        raise RuntimeError("broken")

    monkeypatch.setattr("django.middleware.common.CommonMiddleware.process_request", fail)

    response = Client(raise_request_exception=False).post("/api/v2", "key=x", content_type=FORM)

    assert (response.status_code, json.loads(response.content)) == (500, {"error": "Internal server error"})


@pytest.mark.parametrize("charset", ["rot13", "punycode", "utf-16", "nonsense"])
def test_a_body_is_utf8_whatever_charset_it_claims(customer, charset):
    body = f"key={customer.raw_key}&action=services"

    response = Client().generic("POST", "/api/v2", body, content_type=f"{FORM}; charset={charset}")

    assert response.status_code == 200


LENGTHS = ["abc", "-1", "+5", "1_0", " 5", "5 ", "0x5", "5.0", "\xb2", "\xe9", "-" + "9" * 5000, "5, 5", "\0"]


@pytest.mark.parametrize("length", LENGTHS)
def test_a_content_length_that_is_not_a_number_is_malformed(db, length):
    status, _headers, content = call(b"key=x", CONTENT_LENGTH=length)

    assert (status, json.loads(content)) == (400, {"error": "Malformed request body"})
    assert Client().post("/api/v2", "key=x", content_type=FORM, CONTENT_LENGTH=length).status_code == 400


@pytest.mark.parametrize("length", ["65537", "9" * 18, "9" * 5000])
def test_a_content_length_beyond_all_bounds_is_too_large(db, length):
    status, _headers, content = call(b"key=x", CONTENT_LENGTH=length)

    assert (status, json.loads(content)) == (413, {"error": "Request body too large"})


@pytest.mark.parametrize("length", [*LENGTHS, "9" * 5000])
def test_a_page_survives_any_content_length(db, length):
    status, _headers, _content = call(b"username=x", path="/dashboard/sign-in/", CONTENT_LENGTH=length)

    assert status in (400, 403)


CODECS = ["zip", "bz2", "hex", "rot13", "punycode", "idna", "uu", "base64", "quopri", "utf-16", "undefined", "x\0", "é"]
CONTENT_TYPES = [f"{FORM}; {name}={codec}" for name in ("charset", "Charset", "x*") for codec in CODECS]
CONTENT_TYPES += [
    f"{FORM}; charset*=zip'en'%41",
    f"{FORM}; x*=zip''%41",
    f"{FORM}; x*0*=zip''%41; x*1=b",
    f"{FORM};" * 9000,
]
CONTENT_TYPES += [
    f'{FORM}; charset="zip"',
    f"{FORM}; charset='zip'",
    f"{FORM};;=;charset",
    f'{FORM};"',
    f"{FORM}; x*=nonsense''a",
]


@pytest.mark.parametrize("content_type", CONTENT_TYPES)
def test_no_parameter_of_a_content_type_breaks_anything(customer, log, content_type):
    """Django decodes the query string with the client's charset, before any middleware."""
    body = f"key={customer.raw_key}&action=services".encode()

    status, _headers, content = call(body, query=f"key={customer.raw_key}", CONTENT_TYPE=content_type)

    assert (status, json.loads(content)) == (200, [])
    assert customer.raw_key not in log.text
    assert call(query="q=%41", path="/developers/", CONTENT_TYPE=content_type, REQUEST_METHOD="GET")[0] == 200


BOUNDARIES = ["é", "\xff", "a\0b", '"', "a" * 300, "", "a;b", "zip''a", "a b", "a\\"]


@pytest.mark.parametrize("boundary", BOUNDARIES)
@pytest.mark.parametrize(
    "form", ["multipart/form-data; boundary={}", 'multipart/form-data; boundary="{}"; charset=zip']
)
def test_no_boundary_breaks_anything(db, boundary, form):
    content_type = form.format(boundary)
    status, _headers, content = call(b"--a\r\n", query="a=b", CONTENT_TYPE=content_type)

    assert (status, json.loads(content)) in (
        (400, {"error": "Malformed request body"}),
        (401, {"error": "Invalid API key"}),
    )
    assert call(b"--a", path="/dashboard/sign-in/", CONTENT_TYPE=content_type)[0] in (200, 400, 403)


def test_a_multipart_body_of_pages_keeps_its_boundary(db):
    body = b'--a\r\nContent-Disposition: form-data; name="username"\r\n\r\nfound\r\n--a--\r\n'
    content_type = 'multipart/form-data; charset=zip; boundary="a"'

    seen = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("notpanel.wsgi.django_application", lambda environ, start_response: seen.append(environ) or [])
        application(wsgi_environ(body, CONTENT_TYPE=content_type), None)

    request = WSGIRequest(seen[0])
    assert request.POST["username"] == "found"


def test_no_address_of_the_api_redirects_to_tls(db, settings):
    settings.SECURE_SSL_REDIRECT = True

    paths = ("/api", "/api/", "/API/x", "/api.json", "/api/v2", "//api/v2", "/API/V2/")
    assert [Client().get("/", PATH_INFO=path).status_code for path in paths] == [404, 404, 404, 404, 405, 405, 405]


@pytest.mark.parametrize("action", ["refill_status", "status", "nonsense"])
def test_answers_must_not_be_cached(customer, action):
    assert customer.post(action)["Cache-Control"] == "no-store"


def test_a_client_may_cache_the_services_but_must_revalidate(customer):
    assert customer.post("services")["Cache-Control"] == "private, no-cache"


def test_an_answer_is_what_rest_framework_would_render(customer):
    order = factories.Order(account=customer.account, charge="0.50")
    parameters = {"orders": f"{order.number},é\u2028</x>"}
    names = {"Allow", "Cache-Control", "Content-Length", "Content-Type", "X-Request-ID"}

    response = customer.post("status", **parameters)

    assert response.content == JSONRenderer().render(response.json(), "application/json", {"response": response})
    assert (response["Content-Type"], response["Allow"]) == ("application/json", "POST")
    assert names <= {name for name, _ in response.items()}
    # An error is still rendered by REST framework, and has the same headers except for its code.
    refused = customer.post("status", order="none")
    assert {name for name, _ in refused.items()} == {name for name, _ in response.items()} | {"X-Error-Code"}


def test_a_request_of_the_api_does_not_pass_what_serves_files(customer, monkeypatch):
    def fail(self, request):
        raise AssertionError("it passed WhiteNoise")

    monkeypatch.setattr("whitenoise.middleware.WhiteNoiseMiddleware.__call__", fail)

    assert customer.post("services").status_code == 200
    with pytest.raises(AssertionError, match="WhiteNoise"):
        Client().get("/")


@pytest.mark.parametrize(
    ("status", "answered", "error"),
    [
        (503, 503, "Service temporarily unavailable"),
        (404, 404, "Not found"),
        (418, 500, "Internal server error"),
        (500, 500, "Internal server error"),
    ],
)
def test_a_page_that_something_else_made_becomes_json(rf, status, answered, error):
    page = HttpResponse("<html>", status=status)

    response = log_requests(lambda request: page)(rf.post("/api/v2"))

    assert (response.status_code, json.loads(response.content)) == (answered, {"error": error})
    assert "X-Error-Code" in response
    assert ("Retry-After" in response) == (status == 503)
