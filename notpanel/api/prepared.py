"""An answer that many requests share: rendered once, compressed once, and named by an entity tag."""

import gzip
import hashlib
from dataclasses import dataclass
from typing import Any

from django.http import HttpRequest, HttpResponse, HttpResponseNotModified
from django.utils.http import parse_etags
from rest_framework.renderers import JSONRenderer

NOTHING = ("q=0", "q=0.0", "q=0.00", "q=0.000")  # the weights of what is not acceptable (RFC 9110, section 12.4.2)


@dataclass(frozen=True)
class Prepared:
    """JSON that an action may return in place of data."""

    plain: bytes
    compressed: bytes
    tag: str

    def respond(self, request: HttpRequest) -> HttpResponse:
        """Return it as the client takes it: compressed, plain, or not at all, since the client has it already."""
        known = parse_etags(request.headers.get("If-None-Match", ""))
        response: HttpResponse
        if "*" in known or f'"{self.tag}"' in (tag.removeprefix("W/") for tag in known):
            response = HttpResponseNotModified()
        elif takes_gzip(request.headers.get("Accept-Encoding", "")):
            response = HttpResponse(self.compressed, content_type="application/json")
            response["Content-Encoding"] = "gzip"
        else:
            response = HttpResponse(self.plain, content_type="application/json")
        response["ETag"] = f'W/"{self.tag}"'  # a weak one: the bytes are not the same for everybody, what they say is
        response["Vary"] = "Accept-Encoding"
        response["Cache-Control"] = "private, no-cache"  # to be kept, and to be asked for again each time
        return response


def prepare(data: Any) -> Prepared:
    """Return ``data`` as the API renders it."""
    plain = JSONRenderer().render(data)
    return Prepared(plain, gzip.compress(plain, mtime=0), hashlib.sha256(plain).hexdigest()[:32])


def takes_gzip(accept_encoding: str) -> bool:
    """Return whether a client that sent this header understands gzip."""
    for coding in accept_encoding.lower().split(","):
        name, _, weight = coding.replace(" ", "").partition(";")
        if name in ("gzip", "x-gzip", "*"):
            return weight not in NOTHING
    return False
