"""The one exception of lewis."""

from __future__ import annotations

import enum
import re
from typing import Optional


class ExitCode(enum.IntEnum):
    """The kind of a failure: the number that the command ``lewis`` ends with."""

    FAILED = 1  #: none of the kinds below
    USAGE = 2  #: a wrong argument or recipe
    INPUT = 3  #: a file was refused: its content is not what it must be
    RESOURCE = 4  #: not enough disk space or memory
    VERIFY = 5  #: bytes are not those that were written
    INTERRUPTED = 130  #: the caller asked for the end of the work


class Error(Exception):
    """What failed, where, what was expected and what was found.

    ``str(error)`` is the line that the command ``lewis`` prints. The other attributes are read
    from that line; each is ``None`` where the line does not say it.

    Attributes:
        code: the kind of the failure, an :class:`ExitCode` (an ``int``).
        place: where: a file with its line (``"recipe.yml:3"``), a model, an option; with
            ``": tensor NAME"`` or the key where the line names one.
        expected: what should be there.
        found: what is there.
    """

    def __init__(self, message: str, code: int = ExitCode.FAILED) -> None:
        super().__init__(message, int(code))
        self.message = message
        self.code = _known(code)
        self.place, self.expected, self.found = _parts(message)

    def __str__(self) -> str:
        return self.message


def _known(code: int) -> ExitCode:
    try:
        return ExitCode(code)
    except ValueError:
        return ExitCode.FAILED


# "PLACE: [tensor NAME | key 'NAME'] ..." A place holds no blank, unless it is an option with its
# value or a file's name with blanks, which is followed by ": " all the same.
_PLACE = re.compile(r"(?P<place>(?:--?[a-z][-a-z]* )?[^'\"(]+?): (?P<rest>.+)", re.DOTALL)
_NAMED = re.compile(r"(?P<named>(?:tensor|metadata|key|task) (?:'[^']*'|[^\s:,]+))")
# "expected EXPECTED, found FOUND", and "... is FOUND, expected EXPECTED".
_EXPECTED_FIRST = re.compile(r"expected (?P<expected>[^;]+?), (?:but )?found (?P<found>[^;]+)", re.DOTALL)
_FOUND_FIRST = re.compile(r"(?P<before>.*), (?:but )?expected (?P<expected>[^;]+)", re.DOTALL)
_EXPECTED = re.compile(r"expected (?P<expected>[^;]+)", re.DOTALL)
_VERB = re.compile(r"(?:\b(?:is|are|has|have|holds|begins|ends|saw)\b|[:;]) ?")


def _values(text: str) -> tuple[Optional[str], Optional[str]]:
    """What was expected and what was found."""
    match = _EXPECTED_FIRST.search(text)
    if match:
        return match["expected"], match["found"]
    match = _FOUND_FIRST.search(text)
    if match:
        return match["expected"], _VERB.split(match["before"])[-1] or None
    match = _EXPECTED.search(text)
    return (match["expected"], None) if match else (None, None)


def _parts(message: str) -> tuple[Optional[str], Optional[str], Optional[str]]:
    place, rest = None, message
    match = _PLACE.match(message)
    if match:
        place, rest = match["place"], match["rest"]
        named = _NAMED.match(rest)
        if named:
            place = f"{place}: {named['named']}"
    return (place, *_values(rest))
