"""Invented prompts: texts such as people write for incident work, put together from sentences of our own."""

from __future__ import annotations

from random import Random

_OPENINGS = (
    "Read the timeline below and tell what happened in plain words.",
    "You are given the notes of an incident review.",
    "Here follow messages from the responders' channel.",
    "Look at the alert and at the runbook beside it.",
    "Compare today's pages with those of the last four weeks.",
    "Below is a report written during the night shift.",
)
_REQUESTS = (
    "Name the service that failed first, and say how you know.",
    "List what was done, in the order in which it was done, with the times.",
    "Propose no more than three tags, best first.",
    "Say which customers noticed anything, and for how long.",
    "Keep what is known apart from what is guessed.",
    "Leave out greetings, thanks and people joining the channel.",
    "Write five sentences at most.",
    "End with the questions that are still open, and who could answer them.",
    "If the alert was a false alarm, say so in the first line.",
    "Quote log lines exactly as they stand: `level=error code=503 path=\\\\shared\\x`.",
)
_FLOURISHES = (
    "Antworte auf Deutsch, wenn die Notizen deutsch sind: Störung, Ausfall, Größe.",
    "用一句话概括影响范围。",
    "影響を受けた地域を挙げてください。",
    "Mark risky steps with ⚠️ and finished ones with ✅; the on-call crew is 👩🏽‍🚒.",
    "Spell cafe\u0301 and café as they were spelt; they are not the same characters.",
    "Keep\u00a0these\u00a0words\u00a0together, and\tthis\tas\ta\ttable.",
    "Ответ дайте на языке запроса.",
    "Quotes \"double\" and 'single', percent 100 %, a colon:name, braces {} and $1 are to be left alone.",
    "שמרו על סדר המילים.",
)
_SYSTEM_MESSAGES = (
    "You help the people who are on call. Be calm and brief.",
    "You write for readers who were asleep when it happened.\nNever invent a number.",
    "You are careful: what the notes do not say, you do not say. 🧭",
)


def invent_text(random: Random) -> str:
    """A prompt's text, of two to some thirty sentences."""
    sentences = [random.choice(_OPENINGS)]
    for _ in range(random.choice((1, 3, 5, 8, 30))):
        sentences.append(random.choice(_FLOURISHES if random.random() < 0.25 else _REQUESTS))
    return random.choice((" ", "\n", "\n\n- ")).join(sentences)


def invent_system_message(random: Random) -> str | None:
    return random.choice((None, *_SYSTEM_MESSAGES))


def text_of_length(random: Random, characters: int) -> str:
    """A text of exactly so many characters (not bytes)."""
    pieces = [invent_text(random)]
    while sum(map(len, pieces)) < characters:
        pieces.append(invent_text(random))
    return "".join(pieces)[:characters]
