"""What an act of authority would do, and what stands in its way."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any

from adapters.postgres.crossing import count_moving, unacceptable
from adapters.postgres.ledger.evidence import EvidenceBook
from adapters.postgres.ledger.statistics import StatisticsBook
from adapters.prompts.migration import Stores
from harness.cli.gathering import gather
from harness.errors import ConfigError, IllegalPhase, Refused
from harness.gates import evaluate, names_of
from harness.moving import Stand
from harness.phases import NEXT_STEP, Phase, path
from harness.records import Verdict
from harness.routing import Route, Store, group

# Without these nobody could say who has authority, or the last step would be taken from between two others.
_INSUPERABLE = {"tenants", "copied", "guard", "scope_policy", "authority", "unfinished"}
_OBSTACLES = _INSUPERABLE | {"verified", "long_transactions", "on_the_way"}


@dataclass(frozen=True, slots=True)
class Plan:
    """What a command would do. ``obstacles`` stand in its way, by name; without any it may be carried out.

    ``epoch`` is the route's afterwards. ``overruled`` names what would have stood in its way, too.
    """

    command: str
    before: Stand
    after: Stand
    loser: Store | None
    scopes: int
    records: int
    epoch: int
    obstacles: dict[str, str]
    left_behind: frozenset[str] = frozenset()
    overruled: frozenset[str] = frozenset()

    @property
    def changes(self) -> bool:
        return replace(self.before, automatic=self.after.automatic) != self.after

    def document(self) -> dict[str, Any]:
        return {
            "command": self.command,
            "reads_percent": self.after.reads_percent,
            "writes_percent": self.after.writes_percent,
            "shadow_percent": self.after.shadow_percent,
            "before": stand_as_json(self.before),
            "after": stand_as_json(self.after),
            "loser": None if self.loser is None else self.loser.value,
            "scopes": self.scopes,
            "records": self.records,
            "obstacles": self.obstacles,
            "left_behind": sorted(self.left_behind),
            "overruled": sorted(self.overruled),
        }


def stand_as_json(stand: Stand) -> dict[str, Any]:
    return {
        "phase": stand.phase.value,
        "reads_percent": stand.reads_percent,
        "writes_percent": stand.writes_percent,
        "shadow_percent": stand.shadow_percent,
        "pins": {name: store.value for name, store in sorted(stand.pins.items())},
    }


Wish = Callable[[Stand], Stand]


def plan(
    stores: Stores,
    command: str,
    wish: Wish,
    *,
    gated: bool = False,
    despite: Collection[str] = (),
    left_behind: frozenset[str] = frozenset(),
) -> Plan:
    """The plan of a command. Raises IllegalPhase for one that the phase does not allow."""
    epoch = stores.routes.view().route.epoch + 1  # before the rest: what changes in between is noticed
    before = stores.stand()
    if before.phase is Phase.COMPLETE:
        raise IllegalPhase(f"the migration is COMPLETE: no authority moves any more. Next: {NEXT_STEP[before.phase]}")
    after = wish(before)
    path(before.phase, after.phase)
    loser = losing(before, after, stores.salt)
    scopes = records = 0
    if loser is not None:
        scopes, records = count_moving(stores.engine(loser), loser, stores.parts_of(loser), stores.salt, before, after)
    obstacles = _obstacles(stores, before, after, loser)
    if gated:
        obstacles |= {
            gate.name: gate.evidence
            for gate in evaluate(gather(stores, total=StatisticsBook(stores.new).total), stores.settings.gates)
            if gate.verdict is not Verdict.PASS
        }
    left = overruling(obstacles, despite)
    overruled = frozenset(obstacles.keys() - left.keys())
    return Plan(command, before, after, loser, scopes, records, epoch, left, left_behind, overruled)


def check_names(stores: Stores, despite: Collection[str]) -> None:
    """Raise ConfigError for what no gate and no obstacle is called: it is misspelt, and overrules nothing."""
    known = _OBSTACLES.union(names_of(stores.settings.gates))
    if strange := sorted(set(despite) - known):
        raise ConfigError(f"--despite {strange[0]}: nothing is called that; there are {', '.join(sorted(known))}")


def overruling(obstacles: Mapping[str, str], despite: Collection[str]) -> dict[str, str]:
    """The obstacles that are left; some cannot be overruled."""
    return {name: text for name, text in obstacles.items() if name in _INSUPERABLE or name not in despite}


def losing(before: Stand, after: Stand, salt: str) -> Store | None:
    """The store that loses authority over something; the one to begin with where only pins change; None for neither.

    An act goes one way only. Raises Refused for one that would have to go both ways.
    """
    if loser := losing_scopes(before, after, salt):
        return loser
    return Store.LEGACY if before.pins != after.pins else None


def losing_scopes(before: Stand, after: Stand, salt: str) -> Store | None:
    """The store that loses authority over something; None where none does, whatever pins say the same anew."""
    was, will_be = (Route(writes_percent=each.writes_percent, salt=salt, pins=each.pins) for each in (before, after))
    losers = set()
    if after.writes_percent != before.writes_percent:
        losers.add(Store.LEGACY if after.writes_percent > before.writes_percent else Store.NEW)
    for name in before.pins.keys() | after.pins.keys():
        if name != group(name):
            losers |= {was.authority(name)} - {will_be.authority(name)}
        elif before.pins.get(name) is not after.pins.get(name):
            # Of a group without a pin the percent decides; it may give the group's scopes to either store.
            held, holding = _stores_of(before, name), _stores_of(after, name)
            losers |= {store for store in held if holding != {store}}
    if len(losers) > 1:
        raise Refused("this would move scopes in both directions at once; change the percent and the pins one by one")
    return losers.pop() if losers else None


def _stores_of(stand: Stand, name: str) -> set[Store]:
    """The stores that may have authority over scopes of a group."""
    if (pin := stand.pins.get(name)) is not None:
        return {pin}
    return {0.0: {Store.LEGACY}, 100.0: {Store.NEW}}.get(stand.writes_percent, set(Store))


def with_debt(stores: Stores, planned: Plan) -> Plan:
    """The plan, with what legacy could not take over, as far as that is known: the act itself looks once more when
    everything has been carried over, and is refused only by what is left.
    """
    if losing_scopes(planned.before, planned.after, stores.salt) is not Store.NEW:
        return planned
    debts = {each.key: each.scope for each in stores.owed() if each.key not in planned.left_behind}
    said = unacceptable(debts, stores.salt, planned.before, planned.after)
    return replace(planned, obstacles=planned.obstacles | {"debt": said}) if said else planned


def _obstacles(stores: Stores, before: Stand, after: Stand, loser: Store | None) -> dict[str, str]:
    found: dict[str, str] = {}
    if losing_scopes(before, after, stores.salt) is Store.LEGACY or after.reads_percent > before.reads_percent:
        if missing := stores.uncaptured_tenants():
            found["tenants"] = f"nothing carries over the tenants {', '.join(missing)}; run crossfade prepare"
        if uncopied := stores.uncopied_tenants():
            found["copied"] = f"not all of {', '.join(uncopied)} has been copied; run crossfade backfill"
        latest, copied_at = EvidenceBook(stores.new).standing(), stores.copied_at()
        if latest is None or latest.verdict is not Verdict.PASS or (copied_at and latest.at < copied_at):
            said = (
                "missing"
                if latest is None
                else "older than the last copy"
                if latest.verdict is Verdict.PASS
                else latest.verdict.value
            )
            found["verified"] = f"the last verification is {said}; new serves only after crossfade verify passed"
    if loser is None:
        return found
    if not stores.reading.by_type:
        found["scope_policy"] = (
            'under scope_policy = "project" a scope does not say which of Dispatch\'s types a prompt has, so writes '
            "stay with legacy; reads may move"
        )
    modes = stores.guard_modes()
    if off := [store.value for store, mode in modes.items() if mode != "enforce"]:
        found["guard"] = f"the guard of {' and '.join(off)} does not enforce; set guard.mode and run crossfade prepare"
    if held := stores.long_transactions():
        found["long_transactions"] = f"a fence would wait for {', '.join(held[:3])}; end them"
    return found
