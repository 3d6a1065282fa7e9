"""The entry point of WSGI servers: ``notpanel.wsgi:application``."""

import io
import os
import re
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from django.core.wsgi import get_wsgi_application

from notpanel.api.bodies import LARGEST_FILE, takes_files

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "notpanel.settings")

LARGEST_CHUNKED_BODY = 1024 * 1024  # bytes; the API itself refuses more than 64 KiB

django_application = get_wsgi_application()


_BOUNDARY = re.compile(r'boundary\s*=\s*(?:"([^"\\]*)"|([^\s;"]*))', re.IGNORECASE)


def application(environ: dict[str, Any], start_response: "StartResponse") -> Iterable[bytes]:
    """Answer a request. Before Django reads its headers, mend those that Django fails on or misreads.

    A chunked body gets a Content-Length: Django treats a body without one as empty, and axios sends multipart forms in
    chunks. One that is too long is cut, and gets a length that every view refuses.
    """
    if "CONTENT_LENGTH" not in environ and "chunked" in environ.get("HTTP_TRANSFER_ENCODING", "").lower():
        longest = LARGEST_FILE if takes_files(environ.get("PATH_INFO", "")) else LARGEST_CHUNKED_BODY
        body = environ["wsgi.input"].read(longest + 1)
        environ["wsgi.input"] = io.BytesIO(body)
        environ["CONTENT_LENGTH"] = str(len(body)) if len(body) <= longest else "9" * 18
    if length := environ.get("CONTENT_LENGTH"):
        environ["CONTENT_LENGTH"] = _plain_length(length)
    if ";" in environ.get("CONTENT_TYPE", ""):
        environ["CONTENT_TYPE"] = _plain_content_type(environ["CONTENT_TYPE"])
    return django_application(environ, start_response)


def _plain_length(length: str) -> str:
    """Return a Content-Length that int() reads as HTTP means it, -1 if it is invalid.

    int() takes signs, underscores and other digits, and fails at thousands of them.
    """
    if not (length.isascii() and length.isdigit()):
        return "-1"
    return length if len(length) <= 18 else "9" * 18


def _plain_content_type(content_type: str) -> str:
    """Return a Content-Type without its parameters, except for the boundary of a multipart body.

    Django decodes the query string with a client's charset, before the first middleware: ``zip`` or ``punycode``
    make it fail. Everything here is UTF-8.
    """
    media_type, _, parameters = content_type.partition(";")
    if media_type.strip().lower().startswith("multipart/") and (found := _BOUNDARY.search(parameters)):
        return f'{media_type}; boundary="{found[1] or found[2] or ""}"'
    return media_type
