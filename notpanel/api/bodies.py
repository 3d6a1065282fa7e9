"""Read the body of a request as pairs of names and values (docs/contract.md, "Transport").

The body itself shows what it is, because clients send JSON or multipart forms under another Content-Type.
"""

import codecs
import io
import json
import re
from collections.abc import Iterable
from typing import Any
from urllib.parse import parse_qsl

from django.conf import settings
from django.core.files.uploadhandler import MemoryFileUploadHandler
from django.http.multipartparser import MultiPartParser, MultiPartParserError

from notpanel.api.errors import MalformedBody, UnsupportedMediaType
from notpanel.api.parameters import Number

FORM, MULTIPART, JSON = "application/x-www-form-urlencoded", "multipart/form-data", "application/json"
MEDIA_TYPES = (FORM, MULTIPART, JSON)

LARGEST_FILE = 10 * 1024 * 1024  # bytes that the panel may send in one request
_PANEL_PATH = re.compile(r"/api/panel/(orders|services|accounts)/?")


def takes_files(path: str) -> bool:
    """Return whether the path takes a body of up to LARGEST_FILE. Only the panel's do, in their one spelling."""
    return _PANEL_PATH.fullmatch(path) is not None


Pairs = Iterable[tuple[str, Any]]

_BEGINS_AS_JSON = re.compile(rb"[ \t\r\n]*\{")
_BEGINS_AS_MULTIPART = re.compile(rb"[\r\n]*--([ -~]{0,199}[!-~])[ \t]*\r\n(?=content-)", re.IGNORECASE)
_BOUNDARY = re.compile(r';\s*boundary\s*=\s*"?([^\s";,]{1,200})', re.IGNORECASE)


class Members(tuple[tuple[str, Any], ...]):
    """The members of a JSON object in the order sent, including those whose names come twice."""


def read_pairs(body: bytes, content_type: str) -> Pairs:
    """Return the names and values in a body.

    ``content_type`` may be empty: the body is then read as a form. Raises UnsupportedMediaType or MalformedBody.
    """
    media_type = content_type.partition(";")[0].strip().lower() if content_type else FORM
    body = body.removeprefix(codecs.BOM_UTF8)
    try:
        if _BEGINS_AS_JSON.match(body):
            return _read_json(body)
        if boundary := _BEGINS_AS_MULTIPART.match(body):
            return _read_multipart(body, boundary[1].decode())
        if media_type in (FORM, ""):
            return _read_form(body)
        if media_type == MULTIPART and (declared := _BOUNDARY.search(content_type)):
            return _read_multipart(body, declared[1])
    except (ValueError, LookupError, RecursionError, MultiPartParserError) as error:
        # Not UTF-8, an unknown charset, too many parameters, JSON a thousand levels deep.
        raise MalformedBody from error
    raise MalformedBody if media_type in MEDIA_TYPES else UnsupportedMediaType


def _read_form(body: bytes) -> Pairs:
    try:
        text = body.decode()
    except UnicodeDecodeError:  # a client that percent-encodes nothing; its ids are ASCII all the same
        text = body.decode("latin-1")
    return parse_qsl(text, keep_blank_values=True, max_num_fields=settings.DATA_UPLOAD_MAX_NUMBER_FIELDS)


def _read_json(body: bytes) -> Pairs:
    members = json.loads(body.decode(), object_pairs_hook=Members, parse_float=Number, parse_constant=_refuse_constant)
    if not isinstance(members, Members):
        raise MalformedBody
    return members


def _refuse_constant(name: str) -> None:
    raise MalformedBody  # NaN and Infinity are not JSON


def _read_multipart(body: bytes, boundary: str) -> Pairs:
    """Read a multipart form. A file in it is among the values, and is not text."""
    quoted = boundary.replace("\\", "\\\\").replace('"', '\\"')
    meta = {"CONTENT_TYPE": f'{MULTIPART}; boundary="{quoted}"', "CONTENT_LENGTH": str(len(body))}
    texts, files = MultiPartParser(meta, io.BytesIO(body), [MemoryFileUploadHandler()], "utf-8").parse()
    return [(name, value) for found in (texts, files) for name, values in found.lists() for value in values]
