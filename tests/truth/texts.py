"""Corruptions of one text, and of two neighbouring ones."""

from __future__ import annotations

import html
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from random import Random
from typing import Any

from adapters.prompts.prompt import Prompt
from truth.rows import Expected, Row, different, nasty_text
from truth.world import Corruption, Hands, Spoil

Change = Callable[[Prompt, Random], Mapping[str, Any]]


def edit(change: Change) -> Spoil:
    """Rows of new that say something else than they should."""

    def spoil(hands: Hands, rows: Sequence[Row], random: Random) -> list[list[Expected]]:
        changes = {row.record: change(row.record, random) for row in rows}
        hands.change(changes)
        return [[different(record, replace(record, **values))] for record, values in changes.items()]

    return spoil


def _spoilt(name: str, group: str, made: Callable[[Random], str], spoilt: Callable[[str], str]) -> Corruption:
    """A content that the maker makes, spoilt."""
    change = edit(lambda record, random: {"content": spoilt(record.content)})
    return Corruption(name, group, change, lambda random: {"genai_prompt": made(random)})


def _around(piece: str) -> Callable[[Random], str]:
    return lambda random: nasty_text(random) + piece + nasty_text(random)


def _ending(piece: str) -> Callable[[Random], str]:
    return lambda random: nasty_text(random) + piece


def _replaced(piece: str, by: str) -> Callable[[str], str]:
    return lambda text: text.replace(piece, by)


def _message(name: str, group: str, before: str | None, after: str | None) -> Corruption:
    change = edit(lambda record, random: {"system_message": after})
    return Corruption(name, group, change, lambda random: {"genai_system_message": before})


def _moved_border(name: str, separator: str) -> Corruption:
    """What stood before a separator within content stands in the system message: joined they read the same."""

    def word(random: Random) -> str:
        return random.choice("abcdefgh") * random.randint(2, 12)

    def shape(random: Random) -> Mapping[str, Any]:
        return {"genai_prompt": f"{word(random)}{separator}{word(random)}", "genai_system_message": word(random)}

    def change(record: Prompt, random: Random) -> Mapping[str, Any]:
        cut = record.content.rfind(separator) if separator else -1
        head, found, tail = record.content[:cut], separator, record.content[cut:].removeprefix(separator)
        return {"content": head, "system_message": f"{tail}{found}{record.system_message}"}

    return Corruption(name, _NEIGHBOURS, edit(change), shape)


def _shifted(name: str, change: Callable[[Prompt], Mapping[str, Any]]) -> Corruption:
    """Whole texts in a neighbour's place."""
    return Corruption(
        name,
        _NEIGHBOURS,
        edit(lambda record, random: change(record)),
        lambda random: {"genai_system_message": "Be kind."},
    )


_NULLS = "NULL and texts like it"
_BLANKS = "Blanks and line ends"
_CHARACTERS = "Characters"
_LENGTHS = "Lengths and numbers"
_NEIGHBOURS = "Texts of neighbouring columns"

TEXTS: tuple[Corruption, ...] = (
    _message("NULL became the empty text", _NULLS, None, ""),
    _message("The empty text became NULL", _NULLS, "", None),
    _message("NULL became the word `NULL`", _NULLS, None, "NULL"),
    _message("The word `NULL` became NULL", _NULLS, "NULL", None),
    _message("NULL became `\\N`", _NULLS, None, r"\N"),
    _message("A hyphen became NULL", _NULLS, "-", None),
    Corruption("NULL became the empty text, in description", _NULLS, edit(lambda record, random: {"description": ""})),
    _spoilt("A trailing blank came", _BLANKS, nasty_text, lambda text: text + " "),
    _spoilt("A trailing blank went", _BLANKS, _ending(" "), lambda text: text[:-1]),
    _spoilt("A leading blank came", _BLANKS, nasty_text, lambda text: " " + text),
    _spoilt("A leading blank went", _BLANKS, lambda random: " " + nasty_text(random), lambda text: text[1:]),
    _spoilt("A trailing line end came", _BLANKS, nasty_text, lambda text: text + "\n"),
    _spoilt("CRLF became LF", _BLANKS, _around("\r\n"), _replaced("\r\n", "\n")),
    _spoilt("LF became CRLF", _BLANKS, _around("a\nb"), _replaced("a\nb", "a\r\nb")),
    _spoilt("A tab became blanks", _BLANKS, _around("\t"), _replaced("\t", "    ")),
    _spoilt("Two blanks became one", _BLANKS, _around("a  b"), _replaced("a  b", "a b")),
    _spoilt("A no-break space became a blank", _BLANKS, _around("\u00a0"), _replaced("\u00a0", " ")),
    _spoilt("Lower case became upper case", _CHARACTERS, _around("plain"), str.upper),
    _spoilt("One letter changed its case", _CHARACTERS, _around("plain"), _replaced("plain", "Plain")),
    _spoilt("NFC became NFD", _CHARACTERS, _around("\u00e9"), lambda text: unicodedata.normalize("NFD", text)),
    _spoilt("NFD became NFC", _CHARACTERS, _around("e\u0301"), lambda text: unicodedata.normalize("NFC", text)),
    _spoilt("A compatible letter took another's place", _CHARACTERS, _around("\ufb01"), _replaced("\ufb01", "fi")),
    _spoilt("A letter became its double of another script", _CHARACTERS, _around("plain"), _replaced("a", "\u0430")),
    _spoilt("A zero-width space came", _CHARACTERS, nasty_text, lambda text: text[:1] + "\u200b" + text[1:]),
    _spoilt("A zero-width joiner went", _CHARACTERS, _around("👩\u200d👧"), _replaced("\u200d", "")),
    _spoilt("A byte order mark came", _CHARACTERS, nasty_text, lambda text: "\ufeff" + text),
    _spoilt("A control character went", _CHARACTERS, _around("\x1f"), _replaced("\x1f", "")),
    _spoilt("An emoji became question marks", _CHARACTERS, _around("👍🏽"), _replaced("👍🏽", "??")),
    _spoilt("An emoji became U+FFFD", _CHARACTERS, _around("👍🏽"), _replaced("👍🏽", "\ufffd\ufffd")),
    _spoilt("An emoji became its surrogates, spelt out", _CHARACTERS, _around("👍"), _replaced("👍", r"\ud83d\udc4d")),
    _spoilt("UTF-8 was read as Latin-1", _CHARACTERS, _around("\u00e9"), lambda text: text.encode().decode("latin-1")),
    _spoilt("A straight quotation mark became a curly one", _CHARACTERS, _around('"'), _replaced('"', "”")),
    _spoilt("Markup was escaped", _CHARACTERS, _around("<b>"), html.escape),
    _spoilt("A line end was escaped", _CHARACTERS, _around("\n"), _replaced("\n", r"\n")),
    _spoilt("The last character was cut off", _LENGTHS, _ending("!"), lambda text: text[:-1]),
    _spoilt("A combining mark was cut off", _LENGTHS, _ending("e\u0301"), lambda text: text[:-1]),
    _spoilt("Cut to 255 characters", _LENGTHS, _ending("x" * 300), lambda text: text[:255]),
    _spoilt(
        "Cut by one, at the limit",
        _LENGTHS,
        lambda random: ("€" + nasty_text(random)).ljust(10_000, "x"),
        lambda text: text[:-1],
    ),
    _spoilt(
        "Leading zeros went", _LENGTHS, lambda random: f"00{random.randint(1, 999)}", lambda text: text.lstrip("0")
    ),
    _spoilt(
        "A number lost its last nought", _LENGTHS, lambda random: f"{random.randint(1, 99)}.50", lambda text: text[:-1]
    ),
    _spoilt("A number was written out", _LENGTHS, lambda random: f"{random.randint(1, 9)}e3", _replaced("e3", "000")),
    _moved_border("`a|b` + `c` became `a` + `b|c`", "|"),
    _moved_border("The same with the control character for it (U+001F)", "\x1f"),
    _moved_border("The same with a line end", "\n"),
    _moved_border("The same with a mark of length (`1:`)", "1:"),
    _moved_border("`ab` + `c` became `a` + `bc`", ""),
    _shifted("A text shifted to its neighbour", lambda r: {"description": r.system_message, "system_message": None}),
    _shifted("Two texts changed places", lambda r: {"content": r.system_message, "system_message": r.content}),
)
