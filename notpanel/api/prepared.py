"""An answer that many requests share: rendered and compressed once, and identified by an ETag."""

import gzip
import hashlib
from dataclasses import dataclass
from typing import Any

from django.http import HttpRequest, HttpResponse, HttpResponseNotModified
from django.utils.http import parse_etags
from rest_framework.renderers import JSONRenderer

# The weights that mean "not acceptable" (RFC 9110, section 12.4.2).
NOT_ACCEPTABLE = ("q=0", "q=0.0", "q=0.00", "q=0.000")


@dataclass(frozen=True)
class Prepared:
    """Rendered JSON, which an action may return instead of data."""

    plain: bytes
    compressed: bytes
    tag: str

    def respond(self, request: HttpRequest) -> HttpResponse:
        """Answer a conditional request with 304 if the client has this answer, else with the answer.

        The answer is compressed if the client accepts gzip.
        """
        known = parse_etags(request.headers.get("If-None-Match", ""))
        response: HttpResponse
        if "*" in known or f'"{self.tag}"' in (tag.removeprefix("W/") for tag in known):
            response = HttpResponseNotModified()
        elif accepts_gzip(request.headers.get("Accept-Encoding", "")):
            response = HttpResponse(self.compressed, content_type="application/json")
            response["Content-Encoding"] = "gzip"
        else:
            response = HttpResponse(self.plain, content_type="application/json")
        response["ETag"] = f'W/"{self.tag}"'  # weak, because one tag stands for plain and compressed bytes
        response["Vary"] = "Accept-Encoding"
        response["Cache-Control"] = "private, no-cache"  # the client may keep it, and must revalidate it each time
        return response


def prepare(data: Any) -> Prepared:
    """Render ``data`` as the API does, and compress it."""
    plain = JSONRenderer().render(data)
    return Prepared(plain, gzip.compress(plain, mtime=0), hashlib.sha256(plain).hexdigest()[:32])


def accepts_gzip(accept_encoding: str) -> bool:
    """Return whether a client that sent this Accept-Encoding header accepts gzip."""
    for coding in accept_encoding.lower().split(","):
        name, _, weight = coding.replace(" ", "").partition(";")
        if name in ("gzip", "x-gzip", "*"):
            return weight not in NOT_ACCEPTABLE
    return False
