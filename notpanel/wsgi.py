"""The entry point of WSGI servers: ``notpanel.wsgi:application``."""

import io
import os
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from django.core.wsgi import get_wsgi_application

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "notpanel.settings")

LARGEST_CHUNKED_BODY = 1024 * 1024  # bytes; the API itself refuses more than 64 KiB

django_application = get_wsgi_application()


def application(environ: dict[str, Any], start_response: "StartResponse") -> Iterable[bytes]:
    """Answer a request, and give the body of a chunked one a Content-Length.

    Django treats a body without a Content-Length as empty, and axios sends multipart forms in chunks. A body over
    LARGEST_CHUNKED_BODY is cut one byte past it.
    """
    if "CONTENT_LENGTH" not in environ and "chunked" in environ.get("HTTP_TRANSFER_ENCODING", "").lower():
        body = environ["wsgi.input"].read(LARGEST_CHUNKED_BODY + 1)
        environ["wsgi.input"] = io.BytesIO(body)
        environ["CONTENT_LENGTH"] = str(len(body))
    return django_application(environ, start_response)
