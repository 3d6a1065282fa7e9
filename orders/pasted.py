"""Read what people paste to find an order or a refill: ids and numbers, links, names."""

import re
from typing import NamedTuple

from notpanel.api.parameters import LARGEST_BATCH, QUOTES, clean, split_ids
from notpanel.kit.public_id import parse

_CHUNK = re.compile(r"(\s+)")
_LINK = re.compile(r"/|www\.", re.IGNORECASE)
_SCHEME = re.compile(r"^([a-z][a-z0-9+.-]*://)?(www\.)?", re.IGNORECASE)
_NEXT_LINK = re.compile(r"[,;|](?=https?://|www\.)", re.IGNORECASE)  # between links without a blank
_AROUND_LINK = QUOTES + "<>()[]{},;|"

# Parameters that applications add when somebody shares a link. They say nothing of what it leads to.
_TRACKING = re.compile(
    r"(utm_\w+|igsh(?:id)?|fbclid|gclid|si|feature|_[rt]|is_from_webapp|sender_device|mibextid|ref)="
)
_JUDGED_PARAMETERS = 10  # of a link; longer queries are not looked at further


class Pasted(NamedTuple):
    """What a text names. Each list is in the order of the text."""

    ids: list[str]  # ids and numbers
    links: list[str]
    names: list[str]  # what may be a user name, an e-mail address or a part of one
    unread: list[str]  # words beside ids or links, which are not looked up

    @property
    def is_too_long(self) -> bool:
        """Return whether it names more than one search takes."""
        return len(self.ids) + len(self.links) + len(self.names) > LARGEST_BATCH


def read(text: str) -> Pasted:
    """Sort out what somebody pasted into a search.

    Ids are read as the API reads lists of them. A text with neither an id nor a link is one name, blanks included.
    """
    links: list[str] = []
    rest: list[str] = []
    for chunk in _CHUNK.split(text):
        for part in _NEXT_LINK.split(chunk) if _LINK.search(chunk) else [chunk]:
            link = _LINK.search(part) and part.strip(_AROUND_LINK)
            (links if link else rest).append(link or part)
    words = split_ids("".join(rest))
    ids = [word for word in words if _is_id(word)]
    others = [word for word in words if word not in ids]
    if ids or links:
        names = [word for word in others if "@" in word]
        return Pasted(ids, links, names, [word for word in others if "@" not in word])
    name = clean(text)
    # A host on its own may be the link of an order.
    return Pasted([], [name] if "." in name and len(others) == 1 else [], [name] if name else [], [])


def _is_id(text: str) -> bool:
    return parse("ord", text) is not None or parse("ref", text) is not None


def without_scheme(link: str) -> str:
    """Return a link, or a part of one, without what people leave out when they write it."""
    return _SCHEME.sub("", clean(link), count=1)


def ways_to_write(link: str) -> tuple[list[str], list[str]]:
    """Return the links that are ``link`` with less after its ``?``, and the beginnings of those with more.

    Scheme, ``www.`` and trailing slashes are left to ``orders_link_key`` in the database.
    """
    path, _, query = link.partition("#")[0].partition("?")
    parameters = [part for part in query.split("&")[:_JUDGED_PARAMETERS] if part]
    kept = [part for part in parameters if not _TRACKING.match(part)]
    whole = f"{path}?{'&'.join(kept)}" if kept else path
    fewer = [f"{path}?{'&'.join(parameters[:count])}" for count in range(1, len(parameters) + 1)]
    same = dict.fromkeys([path, whole, *fewer, *(f"{path}?{part}" for part in kept)])
    return list(same), [f"{whole}&" if kept else f"{path}?"]
