"""Read what people send as parameters (docs/contract.md, "Reading parameters").

The API and the dashboard's pasted list read ids with the same functions.
"""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Any, ClassVar

from notpanel.api.errors import (
    BothGiven,
    MalformedBody,
    MissingParameter,
    ParameterRepeated,
    SeveralGiven,
    TooMany,
)
from notpanel.kit import request_facts
from notpanel.kit.refusals import Refusal

LARGEST_BATCH = 100  # ids in one request

# Characters that nobody sees, taken off wherever they stand: zero-width spaces and joiners, the byte order mark,
# direction marks, the soft hyphen, variation selectors (Unicode's Default_Ignorable_Code_Point, and annotations).
INVISIBLE = (
    "\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e\u2060-\u206f\u3164\ufe00-\ufe0f"
    "\ufeff\uffa0\ufff0-\ufffb"
)
QUOTES = "\"'`´“”„‟‘’‚‛«»‹›"
BRACKETS = "[](){}"
SEPARATORS = ",;|"  # of ids, beside blanks and line breaks
_INVISIBLE = re.compile(f"[{INVISIBLE}\U000e0000-\U000e0fff]+")
_BLANKS = "".join(filter(str.isspace, map(chr, range(0x3001))))
_SEPARATOR = re.compile(rf"[\s{SEPARATORS}]+")
# Digits in groups of three behind commas, or behind single blanks: a number with thousands separators, or several
# three-digit ids.
_GROUPS = re.compile(
    r"(?<![\w.-])[1-9][0-9]{0,2}(?:(?:,[0-9]{3})+|(?:[^\S\t\n\v\f\r\x1c-\x1f\x85\u2028\u2029][0-9]{3})+)(?![\w.-])"
)
_GROUP_WITH_ZERO = re.compile(r"\D0")
_PLAIN = re.compile(r"[A-Za-z0-9_-]+")  # text that needs no cleaning
_ITEM = re.compile(r"([^\[]+)\[[0-9]*\]")  # orders[], orders[0]


class Number(str):
    """A number with a fraction or an exponent, as the client wrote it in JSON."""


class Integer(str):
    """An id that the client wrote as an integer in JSON. Answers repeat it as one."""


def clean(text: str) -> str:
    """Strip invisible characters, and the blanks and quotes around the whole text."""
    if _PLAIN.fullmatch(text):
        return text
    if not text.isascii():
        text = _INVISIBLE.sub("", text)
    return text.strip(_BLANKS + QUOTES)


def split_ids(text: str) -> list[str]:
    """Return the ids in a text, without empty ones.

    They are separated by commas, semicolons, vertical bars, line breaks or blanks. Quotes and brackets around them
    and a ``#`` before them are taken off. A number with thousands separators is kept whole if one of its groups begins
    with 0, so that it names nothing: split up, ``2,000,000,028`` would name order 2.
    """
    if _PLAIN.fullmatch(text):
        return [text]
    if not text.isascii():
        text = _INVISIBLE.sub("", text)
    ids: list[str] = []
    end = 0
    for groups in _GROUPS.finditer(text):
        if _GROUP_WITH_ZERO.search(groups[0]):
            ids += _split(text[end : groups.start()])
            ids.append(groups[0])
            end = groups.end()
    return ids + _split(text[end:])


def _split(text: str) -> list[str]:
    items = (item.lstrip(QUOTES + BRACKETS + "#").rstrip(QUOTES + BRACKETS) for item in _SEPARATOR.split(text))
    return [item for item in items if item]


class Parameters:
    """The parameters of a request. Every scalar is read as text, whatever type JSON gave it.

    ``pairs`` are names and values in the order sent; a name may come several times. A value is text or, from JSON,
    anything.
    """

    def __init__(self, pairs: Iterable[tuple[str, Any]]) -> None:
        self._values: dict[str, list[Any]] = {}
        for name, value in pairs:
            if value is None:
                continue
            if name[-1:] == "]" and (item := _ITEM.fullmatch(name)):
                name = item[1]
            self._values.setdefault(name, []).append(value)

    def text(self, name: str) -> str:
        """Return the parameter as ``clean`` returns it, or "" if it is missing.

        Raises MalformedBody if it is not a scalar, and ParameterRepeated if it has several values.
        """
        return self._single(name, clean)

    def required(self, name: str) -> str:
        """Return the parameter. Raises MissingParameter if it is missing or empty, and what ``text`` raises."""
        if text := self.text(name):
            return text
        raise MissingParameter(name=name)

    def single_id(self, name: str) -> str:
        """Return the one id that the parameter holds, or "" if it is missing.

        Text that is not exactly one id is returned as it is: it names nothing. Raises what ``text`` raises.
        """
        return self._single(name, _single_id)

    def ids(self, name: str) -> list[str]:
        """Return the ids of every value of the parameter: a text as ``split_ids`` reads it, or a JSON list of texts.

        Raises MalformedBody if an item is not a scalar.
        """
        found: list[str] = []
        for value in self._values.get(name, ()):
            for item in value if isinstance(value, list) else [value]:
                if item is not None:
                    text = _as_text(item)
                    found += [text] if isinstance(text, Integer) else split_ids(text)
        return found

    def _single(self, name: str, read: Callable[[str], str]) -> str:
        values = self._values.get(name)
        if values is None:
            return ""
        if len(values) == 1:
            return read(_as_text(values[0]))
        different = {text for value in values if (text := read(_as_text(value)))}
        if len(different) > 1:
            raise ParameterRepeated(name=name)
        return different.pop() if different else ""

    def __contains__(self, name: str) -> bool:
        """Return whether the parameter was sent, empty or not."""
        return name in self._values


def _single_id(text: str) -> str:
    found = split_ids(text)
    return found[0] if len(found) == 1 else clean(text) if found else ""


def _as_text(value: object) -> str:
    match value:
        case Number():
            return _without_fraction(value)
        case str():
            return value
        case bool():  # true and false, as JSON writes them
            return str(value).lower()
        case int():
            return Integer(value)
        case float():
            return str(value)
    raise MalformedBody


def _without_fraction(number: Number) -> str:
    """Return ``28.0`` and ``2.8e1`` as ``28``, any other number as it was written.

    Decimal, because a float holds only 53 bits: the id would become another one.
    """
    try:
        exact = Decimal(number)
        if len(number) <= 64 and exact.adjusted() < 64 and exact == exact.to_integral_value():
            return str(int(exact))
    except InvalidOperation:
        pass
    return str(number)


@dataclass(frozen=True)
class Parameter:
    """A parameter as the documentation shows it."""

    name: str
    type: str  # "string", "string (CSV)"
    description: str

    @property
    def is_list(self) -> bool:
        return self.type != "string"


@dataclass(frozen=True)
class Ids:
    """The ids in a request, as the client wrote them. ``name`` is that of the parameter for a single one."""

    name: str
    texts: list[str]
    is_batch: bool


@dataclass(frozen=True)
class OneOrMany:
    """Two parameters for ids: a single id (``one``), or up to LARGEST_BATCH ids (``many``). A request has one of them.

    Their descriptions are built from their names, from ``single``, which names a single id, and from ``batch``, which
    says what a batch returns.
    """

    one: str
    many: str
    single: str
    batch: str

    errors: ClassVar[tuple[type[Refusal], ...]] = (MissingParameter, BothGiven, TooMany)

    @property
    def parameters(self) -> tuple[Parameter, Parameter]:
        """Return the two parameters as the documentation shows them."""
        return (
            Parameter(self.one, "string", f"{self.single}. Either {self.one} or {self.many} is required, not both."),
            Parameter(self.many, "string (CSV)", f"Up to {LARGEST_BATCH} comma-separated {self.one} IDs{self.batch}"),
        )

    def read(self, parameters: Parameters) -> Ids:
        """Return the ids in a request. Raises BothGiven, MissingParameter, TooMany, ParameterRepeated or
        MalformedBody.
        """
        ids, single = parameters.ids(self.many), parameters.single_id(self.one)
        if single and ids:
            raise BothGiven(one=self.one, many=self.many)
        if single:
            request_facts.add(ids=1)
            return Ids(self.one, [single], is_batch=False)
        if not ids:
            raise MissingParameter(name=self.many if self.many in parameters else self.one)
        request_facts.add(ids=len(ids))
        if len(ids) > LARGEST_BATCH:
            raise TooMany(many=self.many, limit=LARGEST_BATCH)
        return Ids(self.one, ids, is_batch=True)

    def text_of(self, error: type[Refusal]) -> str:
        """Return the text of an error, with the names of these parameters in it."""
        return error.example_text(name=self.one, one=self.one, many=self.many)


@dataclass(frozen=True)
class Either:
    """Two pairs of parameters for ids: what ``first`` names, or what ``second`` does. A request has one of the four."""

    first: OneOrMany
    second: OneOrMany

    errors: ClassVar[tuple[type[Refusal], ...]] = (MissingParameter, SeveralGiven, TooMany)

    @property
    def parameters(self) -> tuple[Parameter, ...]:
        """Return the four parameters as the documentation shows them."""
        return self.first.parameters + self.second.parameters

    def read(self, parameters: Parameters) -> Ids:
        """Return the ids in a request. Raises SeveralGiven, MissingParameter, TooMany, ParameterRepeated or
        MalformedBody.
        """
        pairs = (self.first, self.second)
        given = [bool(found) for pair in pairs for found in (parameters.single_id(pair.one), parameters.ids(pair.many))]
        if sum(given) > 1:
            raise SeveralGiven(names=self._names)
        return (self.second if any(given[2:]) else self.first).read(parameters)

    def text_of(self, error: type[Refusal]) -> str:
        """Return the text of an error, with the names of these parameters in it."""
        return error.example_text(names=self._names) if error is SeveralGiven else self.first.text_of(error)

    @property
    def _names(self) -> str:
        *others, last = (parameter.name for parameter in self.parameters)
        return f"{', '.join(others)} or {last}"
