"""The noise baseline: what was found by asking one store twice, judged, and the rules that would excuse it.

A field that differed once with nothing written in between differs by itself: that is noise, however rare. That a field
stands still cannot be shown; that it differs more rarely than a limit can, by a confidence sequence
(``harness.sequences``), and anything else is too little evidence. There each pair counts in which it differed while
something was written: on a busy server all noise may hide among these.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from decimal import ROUND_UP, Decimal
from enum import StrEnum
from typing import Any, Literal, Self

from harness.noise import WHOLE, Counts, FieldKey, Noisy
from harness.routing import Store
from harness.sequences import Side, bounds, side
from harness.settings import RuleSettings
from harness.words import counted, named

_MARGIN = 2  # times the greatest distance that was seen: a proposed tolerance


class Finding(StrEnum):
    """Of a field: differs by itself, or certainly more rarely than the limit. Of a rule: used, or certainly not."""

    NOISE = "noise"
    STILL = "still"
    UNKNOWN = "too little evidence"


@dataclass(frozen=True, slots=True)
class FieldNoise:
    """One field of one operation's answers: how often it differed, and between which bounds the rate certainly is.

    ``open``: how often no rule excused it; ``rules``: those that did, at some time. ``shape``: what the two values
    were the last time, without a word of theirs. ``doubtful``: how often it differed while something was written.
    """

    operation: str
    field: str
    differed: int
    compared: int
    low: float
    high: float
    finding: Finding
    open: int = 0
    rules: tuple[str, ...] = ()
    shape: str = ""
    doubtful: int = 0


@dataclass(frozen=True, slots=True)
class RuleUse:
    """A rule in force: in how many pairs it excused something. NOISE: it is needed; STILL: not for noise."""

    name: str
    used: int
    finding: Finding


@dataclass(frozen=True, slots=True)
class Baseline:
    """A store compared with itself. ``at``: when it was begun. ``limit``: the rate below which a field is still.

    ``compared`` pairs were settled; ``transient`` ones among them differed until a write had passed. ``unsettled``
    ones met a write each time, ``failed`` ones got no answer. ``fields``: as kept in the ledger, the noisy ones alone.
    """

    at: datetime
    store: Store
    seconds: float
    compared: int
    transient: int
    unsettled: int
    failed: int
    limit: float
    fields: tuple[FieldNoise, ...] = ()
    rules: tuple[RuleUse, ...] = ()

    @property
    def noise(self) -> tuple[FieldNoise, ...]:
        return tuple(field for field in self.fields if field.finding is Finding.NOISE)

    @property
    def uncovered(self) -> tuple[FieldNoise, ...]:
        """Those that differed by themselves where no rule excused it."""
        return tuple(field for field in self.noise if field.open)

    def sentence(self) -> str:
        """What it found, in one sentence."""
        if not self.compared:
            return f"{self.store} was asked, but no pair of answers could be compared"
        asked = f"{self.store} compared with itself, {counted(self.compared, 'pair')}"
        if not self.noise:
            doubt = sum(field.doubtful > 0 for field in self.fields)
            told = f"; {counted(doubt, 'field')} differed while something was written" if doubt else ""
            return f"{asked}: no field differed by itself{told}"
        told = f"{asked}: {counted(len(self.noise), 'field differs by itself', 'fields differ by themselves')}"
        if self.uncovered:
            told += f"; NOT covered by a rule: {named([f'{each.operation}.{each.field}' for each in self.uncovered])}"
        rules = sorted({rule for each in self.noise if not each.open for rule in each.rules})
        if not rules:
            return told
        return f"{told}; {counted(len(self.noise) - len(self.uncovered), 'field')} covered by {named(rules)}"

    def dump(self) -> dict[str, Any]:
        """A JSON object that ``load`` reads: all but the fields that did not differ."""
        body = asdict(self)
        return body | {"at": self.at.isoformat(), "fields": [asdict(field) for field in self.noise]}

    @classmethod
    def load(cls, dumped: Mapping[str, Any]) -> Self:
        fields = (
            FieldNoise(**(each | {"finding": Finding(each["finding"]), "rules": tuple(each["rules"])}))
            for each in dumped["fields"]
        )
        rules = (RuleUse(each["name"], each["used"], Finding(each["finding"])) for each in dumped["rules"])
        known = {"at": datetime.fromisoformat(dumped["at"]), "store": Store(dumped["store"])}
        return cls(**(dict(dumped) | known | {"fields": tuple(fields), "rules": tuple(rules)}))


def judge(
    counts: Counts,
    rules: Sequence[RuleSettings],
    *,
    at: datetime,
    store: Store,
    seconds: float,
    limit: float,
    alpha: float,
) -> Baseline:
    """``alpha``: how likely a verdict that a field is still may be wrong, at most, each field for itself."""
    fields = [_judged(counts, key, shown, limit, alpha) for key, shown in sorted(counts.shown.items())]
    return Baseline(
        at=at,
        store=store,
        seconds=seconds,
        compared=counts.compared.total(),
        transient=counts.transient.total(),
        unsettled=counts.unsettled.total(),
        failed=counts.failed.total(),
        limit=limit,
        fields=tuple(fields),
        rules=tuple(_use(rule, counts, limit, alpha) for rule in rules),
    )


def _judged(counts: Counts, key: FieldKey, shown: int, limit: float, alpha: float) -> FieldNoise:
    seen, doubtful = counts.noisy.get(key, Noisy()), counts.doubtful[key]
    low, _ = bounds(seen.differed, shown, alpha)
    _, high = bounds(min(shown, seen.differed + doubtful), shown, alpha)
    return FieldNoise(
        *key,
        seen.differed,
        shown,
        low,
        high,
        _finding(seen.differed, doubtful, shown, limit, alpha),
        seen.open,
        tuple(sorted(seen.rules)),
        seen.shape,
        doubtful,
    )


def _finding(hits: int, doubtful: int, n: int, limit: float, alpha: float) -> Finding:
    """``doubtful``: what may have been hits. All of them are taken for such before anything is called still."""
    if hits:
        return Finding.NOISE  # no rate of 0 allows a single one
    return Finding.STILL if side(min(n, doubtful), n, limit, alpha) is Side.WITHIN else Finding.UNKNOWN


def _use(rule: RuleSettings, counts: Counts, limit: float, alpha: float) -> RuleUse:
    shown = sum(
        n
        for (operation, field), n in counts.shown.items()
        if field == rule.field and rule.operation in {"*", operation}
    )
    used, doubted = counts.used[rule.name], counts.doubted[rule.name]
    return RuleUse(rule.name, used, _finding(used, doubted, max(shown, used), limit, alpha))


def propose(counts: Counts, rules: Sequence[RuleSettings], store: Store) -> tuple[RuleSettings, ...]:
    """Rules that would excuse the noise that no rule excuses, and as little else as possible.

    One for all operations if the field differed in each that shows it, else one for each in which it did. None for
    names that stand for a whole answer: such a rule would hide that something is missing.
    """
    taken, proposed = {rule.name for rule in rules}, []
    by_field: dict[str, dict[str, Noisy]] = {}
    for (operation, field), seen in sorted(counts.noisy.items()):
        if seen.open and field not in WHOLE:
            by_field.setdefault(field, {})[operation] = seen
    for field, within in by_field.items():
        showing = {operation for operation, name in counts.shown if name == field}
        alike = {(seen.order, seen.apart is None) for seen in within.values()}
        if len(within) == len(showing) > 1 and len(alike) == 1:
            proposed.append(_rule(field, "*", tuple(within.values()), taken, store))
        else:
            proposed += [_rule(field, operation, (seen,), taken, store) for operation, seen in within.items()]
    return tuple(proposed)


def _rule(field: str, operation: str, seen: Sequence[Noisy], taken: set[str], store: Store) -> RuleSettings:
    name = _free("-".join([field, *([] if operation == "*" else [operation]), "noise"]), taken)
    apart = [each.apart for each in seen if each.apart]
    action: Literal["ignore", "tolerance", "unordered"] = "ignore"
    if all(each.order for each in seen):
        action = "unordered"
    elif len(apart) == len(seen):
        action = "tolerance"
    tolerance = float(_rounded_up(max(apart) * _MARGIN)) if action == "tolerance" else 0.0
    how = f"by up to {max(apart):.3g}" if tolerance else seen[-1].shape
    differed = counted(sum(each.differed for each in seen), "time")
    reason = f"{store} compared with itself: differed {differed}, {how}"
    return RuleSettings(name=name, field=field, action=action, reason=reason, operation=operation, tolerance=tolerance)


def _free(wanted: str, taken: set[str]) -> str:
    """A name that a rule may have, and that no other has."""
    base = re.sub(r"[^a-z0-9_.-]", "-", wanted.lower().lstrip("_.-"))[:58] or "noise"
    names = (base if n == 1 else f"{base}-{n}" for n in range(1, len(taken) + 2))
    name = next(name for name in names if name not in taken)
    taken.add(name)
    return name


def _rounded_up(value: Decimal) -> Decimal:
    """To one digit: 0.0312 becomes 0.04."""
    return value.quantize(Decimal(1).scaleb(value.adjusted()), rounding=ROUND_UP)


def as_toml(rules: Iterable[RuleSettings]) -> str:
    """The rules as they stand in crossfade.toml."""
    blocks = []
    for rule in rules:
        lines = ["[[compare.rules]]"]
        for name, value in asdict(rule).items():
            if (name == "tolerance" and not value) or (name == "operation" and value == "*"):
                continue
            lines.append(f"{name} = {json.dumps(value)}")
        blocks.append("\n".join(lines) + "\n")
    return "\n".join(blocks)
