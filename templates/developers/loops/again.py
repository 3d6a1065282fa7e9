# API_URL=... API_KEY=np_... python3 again.py ord_...
import json
import os
import sys
import time
import uuid
from http.client import HTTPException
from urllib.error import HTTPError
from urllib.parse import urlencode
from urllib.request import urlopen


def ask(parameters, attempts=8):
    body = urlencode({"key": os.environ["API_KEY"], **parameters}).encode()
    wait = 0
    for attempt in range(attempts):
        time.sleep(wait)
        wait = 2**attempt
        try:
            with urlopen(os.environ["API_URL"], body, timeout=30) as answer:
                return json.load(answer)
        except HTTPError as error:
            if error.code != 429 and error.code < 500:
                return json.load(error)  # what was refused will be refused again
            wait = int(error.headers.get("Retry-After", wait))
        except (OSError, HTTPException):
            pass  # no answer, or only part of one: the request may have been carried out
    raise TimeoutError(f"No answer after {attempts} attempts")


# Store the request_id with the order before you ask, so that you can repeat the request after a crash too.
print(json.dumps(ask({"action": "refill", "order": sys.argv[1], "request_id": str(uuid.uuid4())})))
