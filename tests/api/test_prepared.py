"""An answer that many requests share: compressed, with an ETag."""

import gzip
import json

import pytest
from django.test import RequestFactory

from notpanel.api.prepared import accepts_gzip, prepare

DATA = [{"service": n, "name": "é"} for n in range(200)]


def respond(data=DATA, **headers):
    return prepare(data).respond(RequestFactory().post("/api/v2", headers=headers))


def test_the_answer_is_json_plain_or_compressed():
    plain, compressed = respond(), respond(accept_encoding="gzip")

    assert json.loads(plain.content) == DATA
    assert gzip.decompress(compressed.content) == plain.content
    assert plain["Content-Type"] == compressed["Content-Type"] == "application/json"
    assert compressed["Content-Encoding"] == "gzip"
    assert "Content-Encoding" not in plain


def test_two_servers_compress_to_the_same_bytes():
    assert prepare(DATA).compressed[4:8] == bytes(4)  # no time of compression


@pytest.mark.parametrize(
    "other", [[*DATA[:-1], {"service": 199, "name": "x"}], DATA[:-1], [{"service": -1}, *DATA[1:]]]
)
def test_a_different_answer_has_a_different_tag(other):
    assert respond()["ETag"] != respond(other)["ETag"]
    assert respond()["ETag"] == respond(json.loads(json.dumps(DATA)))["ETag"]


def test_the_tag_is_weak_because_plain_and_compressed_bytes_share_it():
    assert respond()["ETag"].startswith('W/"')
    assert respond()["ETag"] == respond(accept_encoding="gzip")["ETag"]


def test_every_answer_has_the_caching_headers():
    tag = respond()["ETag"]

    for response in (respond(), respond(accept_encoding="gzip"), respond(if_none_match=tag)):
        assert response["Cache-Control"] == "private, no-cache"
        assert response["Vary"] == "Accept-Encoding"
        assert response["ETag"] == tag


def test_a_client_that_has_the_answer_gets_304():
    tag = respond()["ETag"]

    assert [respond(if_none_match=known).status_code for known in (tag, tag[2:], f'"x", {tag}', "*")] == [304] * 4
    assert [respond(if_none_match=known).status_code for known in ("", '"x"', tag[:-2] + '"')] == [200] * 3


@pytest.mark.parametrize(
    "header", ["gzip", "x-gzip", "*", "GZip", "br, gzip", "gzip;q=0.001", "gzip ; q=1", "identity, *"]
)
def test_gzip_is_accepted(header):
    assert accepts_gzip(header)


@pytest.mark.parametrize(
    "header", ["", "br", "gzip;q=0", "gzip; q=0.0", "gzip;q=0.00", "GZIP;Q=0.000", "*;q=0", "gzipped"]
)
def test_gzip_is_not_accepted(header):
    assert not accepts_gzip(header)
