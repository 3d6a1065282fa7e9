"""An answer as it is sent, to be kept and sent again."""

from typing import NamedTuple


class Rendered(NamedTuple):
    """An answer, or a refusal."""

    status: int
    code: str  # of the error; empty: it is none
    body: str
