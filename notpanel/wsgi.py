"""The WSGI entry point: ``notpanel.wsgi:application``."""

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
    """Serve Django, which takes a body without a Content-Length for an empty one, the bodies of chunked requests.

    axios sends its multipart forms that way. A body over the limit is cut one byte past it.
    """
    if "CONTENT_LENGTH" not in environ and "chunked" in environ.get("HTTP_TRANSFER_ENCODING", "").lower():
        body = environ["wsgi.input"].read(LARGEST_CHUNKED_BODY + 1)
        environ["wsgi.input"] = io.BytesIO(body)
        environ["CONTENT_LENGTH"] = str(len(body))
    return django_application(environ, start_response)
