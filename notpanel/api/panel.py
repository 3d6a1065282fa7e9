"""``POST /api/panel/…``: limit, authenticate, and import a file (docs/panel-api.md). It knows no rule."""

from collections.abc import Callable
from datetime import tzinfo
from typing import Any

from django.http import HttpRequest
from django.views.decorators.debug import sensitive_variables
from rest_framework.request import Request
from rest_framework.response import Response

from notpanel.api.bodies import LARGEST_FILE, MULTIPART
from notpanel.api.errors import (
    BodyTooLarge,
    MalformedBody,
    UnsupportedMediaType,
    headers_of,
    status_of,
)
from notpanel.api.view import LimitedView, content_length, refuse_encoded
from notpanel.kit import cells, request_facts
from notpanel.kit.addresses import Address
from notpanel.kit.caller import PanelCaller
from notpanel.kit.refusals import BadFile, Refusal
from notpanel.kit.row_files import Imported


class UnknownOption(Refusal):
    message = "Unknown option: {name}"
    cause = "The query string has a name that is not an option of this address."


class BadOption(Refusal):
    message = "{name}: {problem}"
    cause = "An option in the query string has an invalid value."


def _no_authentication(raw_key: str, address: Address | None) -> PanelCaller:
    raise NotImplementedError


def _no_importer(file: Any, **options: Any) -> Imported:
    raise NotImplementedError


class PanelView(LimitedView):
    """An address that takes a file. Its methods stand in the order in which a request passes through them.

    urls.py passes ``importer``, and ``authenticate(raw_key, address)``, which returns the PanelCaller or raises
    InvalidApiKey. ``has_times``: the importer takes the time zone of times without one.
    """

    importer: Callable[..., Imported] = staticmethod(_no_importer)
    authenticate: Callable[[str, Address | None], PanelCaller] = staticmethod(_no_authentication)
    has_times = False

    def post(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        caller = self.identify_caller(request)
        self.rate_limits.count_panel(caller)
        options = self.read_options(request)
        try:
            imported = self.importer(self.read_file(request), **options)
        except BadFile as refusal:
            return _answer_to_bad_file(refusal)
        request_facts.add(created=imported.created, changed=imported.changed)
        return Response(
            {"created": imported.created, "changed": imported.changed, "unchanged": imported.unchanged}
            | {"dry_run": options["dry_run"]}
        )

    @sensitive_variables("raw_key")
    def identify_caller(self, request: Request) -> PanelCaller:
        """Return the caller whose key the header Authorization has. Raises InvalidApiKey."""
        scheme, _, raw_key = request.META.get("HTTP_AUTHORIZATION", "").partition(" ")
        return self.authenticate(raw_key.strip() if scheme.lower() == "bearer" else "", self.address)

    def read_options(self, request: Request) -> dict[str, bool | tzinfo]:
        """Return the options of the import, which are in the query string. Raises UnknownOption or BadOption."""
        readers: dict[str, tuple[str, cells.Converter]] = {"dry_run": ("dry_run", cells.flag)}
        if self.has_times:
            readers["time_zone"] = ("zone", cells.time_zone)
        options: dict[str, bool | tzinfo] = {"dry_run": False}
        for name, texts in request.query_params.lists():
            if name not in readers:
                raise UnknownOption(name=name)
            option, read = readers[name]
            try:
                [text] = texts
                options[option] = read(text)
            except ValueError as error:
                raise BadOption(name=name, problem=error if len(texts) == 1 else "given more than once") from error
        return options

    def read_file(self, request: Request) -> "Body":
        """Return the body as a file. Raises BodyTooLarge, MalformedBody or an error about its kind."""
        length = content_length(request)
        if length > LARGEST_FILE:
            raise BodyTooLarge
        refuse_encoded(request)
        if request.META.get("CONTENT_TYPE", "").partition(";")[0].strip().lower() == MULTIPART:
            raise UnsupportedMediaType  # the file is the body, not a field of a form
        return Body(request._request, length)


class Body:
    """The body of a request as a file. Half a file is never mistaken for a whole one."""

    def __init__(self, request: HttpRequest, length: int) -> None:
        self._request, self._missing = request, length

    def read(self, size: int, /) -> bytes:
        """Return up to ``size`` bytes, none at the end. Raises MalformedBody if the client hung up before the end."""
        try:
            data = self._request.read(size)
        except OSError as error:
            raise MalformedBody from error
        self._missing -= len(data)
        if not data and self._missing > 0:
            raise MalformedBody
        return data


def _answer_to_bad_file(refusal: BadFile) -> Response:
    errors = "1 error" if refusal.count == 1 else f"{refusal.count:,} errors"
    return Response(
        {
            "error": f"The file has {errors}. Nothing was changed.",
            "errors": [{"line": line, "error": text} for line, text in refusal.errors],
        },
        status=status_of(BadFile),
        headers=headers_of(refusal),
    )
