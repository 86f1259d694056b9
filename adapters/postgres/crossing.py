"""What is noted for the scopes that an act moves: carried over before the fence, and compared inside it."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from threading import Event

from sqlalchemy import ColumnElement, Engine, distinct, func, or_, select, union_all

from adapters.postgres.authority import authority_of
from adapters.postgres.carry import StateCarrier
from adapters.postgres.digest import TableSide
from adapters.postgres.errors import speaking_for
from adapters.postgres.ledger.debt import OWED, owed
from adapters.postgres.ledger.tables import quarantine
from adapters.postgres.notes import OF_WHOLE_PART, Choice, Note
from adapters.postgres.part import Part
from adapters.postgres.pool import asking
from adapters.postgres.prepared import Prepared
from adapters.postgres.schema import dirty
from adapters.postgres.scope_locks import Manner
from harness.errors import MismatchFound, Refused, StoreContended
from harness.moving import Act, Drained, Stand
from harness.ports import Clock
from harness.routing import Route, Store, group
from harness.settings import MoveSettings
from harness.words import counted

_PAUSE = 0.005

_Suspects = dict[str, set[str | None]]  # keys of records to be looked at inside the fence, and their scopes
_LITTLE = 20  # notes that came during one round: another one would not bring fewer
_MOST_BUSY = 500  # scopes left behind by one act, at most: every write reads the pins
_BATCH = 1000  # notes of the moving scopes looked at in one go


_HELD = Prepared(select(quarantine.c.scope).where(quarantine.c.scope.isnot(None), quarantine.c.accepted.is_(None)))


def moves(scope: ColumnElement[str], salt: str, before: Stand, after: Stand) -> ColumnElement[bool]:
    """Whether authority over a scope is another one afterwards."""
    was, will_be = (authority_of(scope, salt, stand.writes_percent, _pins(stand)) for stand in (before, after))
    return was != will_be


def _pins(stand: Stand) -> dict[str, str]:
    return {name: store.value for name, store in stand.pins.items()}


@dataclass(frozen=True, slots=True)
class Crossing:
    """One direction of moving. ``carrier`` goes from the loser to the gainer, ``reverse`` the other way.

    ``spare``: so many scopes may stay with the loser because they are being written to. Nothing is carried over inside
    the fence then, so that writers wait for a look at the queue instead (docs/adr/0028-busy-scopes-follow.md).
    """

    carrier: StateCarrier
    reverse: StateCarrier
    loser: TableSide
    gainer: TableSide
    new: Engine
    salt: str
    settings: MoveSettings
    clock: Clock
    stop: Event
    told: Callable[[str], None]
    spare: int = 0
    choices: dict[int, Choice] = field(default_factory=dict, compare=False)
    suspects: dict[int, _Suspects] = field(default_factory=dict, compare=False)

    def approach(self, act: Act) -> None:
        """Carry over while writers go on, until few notes are left. Refused if they keep coming faster than that."""
        self._take_precedence(False)
        self._turn_around(act, self.clock() + self.settings.drain_seconds)
        sample = self.carrier.rehearse(lambda scope: moves(scope, self.salt, act.before, act.after))
        self.loser.records(sample)
        self.gainer.records(sample)
        until, noted = self.clock() + self.settings.drain_seconds, self._noted(act)
        self.carrier.tidy()
        self.reverse.tidy()
        while (left := self.carrier.noted(noted)) > self.settings.settled_notes:
            if self.stop.is_set() or self.clock() > until:
                raise Refused(
                    f"{act.loser}: {left:,} notes or more of the moving scopes are still on their way after "
                    f"{self.settings.drain_seconds:g} s; nothing has changed. Run more catch-up workers (crossfade "
                    "catchup --follow --workers 4), see crossfade status for rejected scopes, and try again"
                )
            if not self.carrier.carry_chosen(noted).notes:
                self.stop.wait(_PAUSE)

    def settle(self, act: Act, until: float) -> None:
        """Carry over alone what came while workers ended, and what came during that, until a round brings little.

        What is not equal then has been written to since, or is to be found out inside the fence.
        """
        self._take_precedence(True)
        self._turn_around(act, until)
        self._debts(), self._held()  # so that they are not asked for the first time while writers wait
        if self.spare:
            self.suspects[act.id] = self._carry_and_look(act, until)
            return
        suspects = self._unequal(self._carry_till_little(act, until))
        # Once more: comparing took a while, and what came meanwhile would be carried while writers wait.
        self.suspects[act.id] = suspects | {key: {None} for key in self._carry_till_little(act, until)}

    def _carry_till_little(self, act: Act, until: float) -> set[str]:
        """Carry round after round, as long as each brings fewer notes than the one before; the keys carried."""
        carried, before = set[str](), _BATCH
        while self.clock() < until:
            came = self.carrier.carry_chosen(self._noted(act), carried).notes
            if came <= _LITTLE or came >= before:
                break
            before = came
        return carried

    def _carry_and_look(self, act: Act, until: float) -> _Suspects:
        """Carry and compare round after round, as long as each brings fewer notes; what was not equal in the end.

        So that the last round is brief: what is written to during it is busy.
        """
        suspects, before = _Suspects(), math.inf
        while self.clock() < until:
            carried = set[str]()
            came = self.carrier.carry_chosen(self._noted(act), carried).notes
            if not came:
                break
            before_that = {key: scopes for key, scopes in suspects.items() if key not in carried}
            suspects = before_that | self._unequal(carried)
            if came >= before:
                break
            before = came
        return suspects

    def _take_precedence(self, whether: bool) -> None:
        for carrier in (self.carrier, self.reverse):
            carrier.carry_in(Manner(whether, self.settings.fence_seconds))

    def _turn_around(self, act: Act, until: float) -> None:
        self.reverse.drain_chosen(self._noted(act), until)

    def drain(self, act: Act, until: float) -> Drained:
        """Carry over the rest and compare it, or leave its scopes; the route to write, with pins for what stays."""
        from_new, choice = act.loser is Store.NEW, self._noted(act)
        with self.carrier.trip() as ours, self.reverse.trip() as theirs:  # both at once, for writers wait
            waiting, noted = choice.ask(ours), choice.ask(theirs)
            listed = ours.ask(OWED) if from_new else theirs.ask(_HELD)
        # What the gainer noted of these scopes it had no authority for (IGNORE_GAINER in model/). It must be turned
        # around first, or it would count as the authority's own state; that cannot be done in here, for it needs the
        # fence that stands.
        if noted():
            raise StoreContended(f"{act.loser.other} has noted changes of the moving scopes meanwhile; try again")
        busy = self._busy(act, waiting())
        debts = {key: scope for key, scope, *_ in listed.rows} if from_new else {}
        held = frozenset() if from_new else frozenset(scope for [scope] in listed.rows)
        if busy is None:
            keys = self.carrier.drain_chosen(self._noted(act), until) | self.suspects[act.id].keys()
            debts, held = self._debts(), frozenset() if from_new else self._held()
            self._compare(act, keys - debts.keys())
        if from_new:
            self._refuse_debt(act, debts)
            after = act.after
        else:
            after = self._with_quarantine(act, held)
        return Drained(_staying(after, busy, act.loser), busy) if busy else Drained(after)

    def _busy(self, act: Act, notes: Sequence[Note]) -> frozenset[str] | None:
        """Moving scopes of which something is noted, none if so be; None where that has to be carried over in here.

        So it has if they are too many, or named by a pin of the act itself, or if one has the name of a group, which a
        pin would keep as a whole, or if notes stand for a whole part, or if a record was not equal although nothing is
        noted of it.
        """
        if not self.spare:
            return None
        if len(notes) == self._noted(act).most:
            return None  # there may be more
        if any(note.of_whole_part for note in notes):
            return None
        noted = {note.scope for note in notes if self.carrier.has_place_for(note.scope)}
        moving = _Moving(self.salt, act.before, act.after)
        busy = set(noted)
        for scopes in self.suspects[act.id].values():
            if any(map(moving, scopes)):
                if not scopes & noted:
                    return None
                busy |= set(filter(moving, scopes))
        scopes_alone = frozenset(scope for scope in busy if scope is not None and scope != group(scope))
        if scopes_alone != busy or len(busy) > min(self.spare, _MOST_BUSY):
            return None
        return scopes_alone if act.after.pins.keys().isdisjoint(busy) else None

    def _unequal(self, keys: Collection[str]) -> _Suspects:
        """Those of the records that loser and gainer do not have alike, and the scopes in which they have them.

        Without those in scopes that the gainer has no place for: they are as the loser has them, whoever has authority.
        """
        with ThreadPoolExecutor(2, "crossing") as pool:  # both at once, for writers wait
            both = [pool.submit(side.records, keys) for side in (self.loser, self.gainer)]
        ours, theirs = (found.result() for found in both)
        differing = [key for key in keys if ours.get(key) != theirs.get(key)]
        scopes = {key: {side[key].scope for side in (ours, theirs) if key in side} for key in differing}
        return {key: found for key, found in scopes.items() if any(map(self.carrier.has_place_for, found))}

    def _debts(self) -> dict[str, str | None]:
        """What legacy cannot hold: scope by key."""
        return {each.key: each.scope for each in owed(asking(self.new))}

    def _held(self) -> frozenset[str]:
        """Scopes with rows in quarantine that nobody has accepted."""
        with speaking_for(Store.NEW), asking(self.new).connect() as connection:
            return frozenset(map(str, _HELD.execute(connection).scalars()))

    def _noted(self, act: Act) -> Choice:
        """The notes of moving scopes, and of whole parts. Put in words once: that takes as long as carrying does."""
        if act.id not in self.choices:
            moving = or_(OF_WHOLE_PART, moves(dirty.c.scope, self.salt, act.before, act.after))
            self.choices[act.id] = Choice.of(moving, max(_BATCH, self.settings.settled_notes + 1))
        return self.choices[act.id]

    def _compare(self, act: Act, keys: Collection[str]) -> None:
        moving = _Moving(self.salt, act.before, act.after)
        differing = [key for key, scopes in self._unequal(keys).items() if any(map(moving, scopes))]
        if differing:
            raise MismatchFound(
                f"{len(differing)} records of the moving scopes differ although everything was carried over "
                f"({', '.join(sorted(differing)[:3])}); nothing has changed. Run crossfade verify, then repair"
            )

    def _refuse_debt(self, act: Act, debts: Mapping[str, str | None]) -> None:
        owed = {key: scope for key, scope in debts.items() if key not in act.left_behind}
        if said := unacceptable(owed, self.salt, act.before, act.after):
            raise Refused(f"{said}; nothing has changed")

    def _with_quarantine(self, act: Act, held: Collection[str]) -> Stand:
        moving = _Moving(self.salt, act.before, act.after)
        staying = {scope for scope in held if moving(scope)}
        if not staying:
            return act.after
        if act.command == "cutover":
            raise Refused(
                f"{len(staying)} scopes have rows in quarantine ({', '.join(sorted(staying)[:3])}); nothing has "
                "changed. Mend them in legacy, or leave them behind: crossfade quarantine accept"
            )
        self.told(f"{counted(len(staying), 'scope')} with rows in quarantine: no move from legacy")
        return _staying(act.after, staying, Store.LEGACY)


def _staying(after: Stand, scopes: Collection[str], store: Store) -> Stand:
    """With pins that keep the scopes where they are, and no others.

    Raises Refused for one with the name of a group, which a pin would keep too.
    """
    if groups := sorted(scope for scope in scopes if scope == group(scope)):
        raise Refused(
            f"scope {groups[0]} cannot stay with {store} alone: it has the name of a group; nothing has changed"
        )
    pins = dict(after.pins) | dict.fromkeys(scopes, store)
    return replace(after, pins=pins, automatic=after.automatic.union(scopes))


class _Moving:
    """Whether a scope is one of those that move."""

    def __init__(self, salt: str, before: Stand, after: Stand) -> None:
        self._was, self._will_be = (
            Route(writes_percent=stand.writes_percent, salt=salt, pins=stand.pins) for stand in (before, after)
        )

    def __call__(self, scope: str | None) -> bool:
        return scope is not None and self._was.authority(scope) is not self._will_be.authority(scope)


def unacceptable(debts: Mapping[str, str | None], salt: str, before: Stand, after: Stand) -> str:
    """Why legacy cannot take over, given the scopes of records that it could not hold, by key; empty if it can."""
    moving = _Moving(salt, before, after)
    found = sorted(key for key, scope in debts.items() if moving(scope))
    if not found:
        return ""
    return (
        f"legacy cannot hold {counted(len(found), 'record')} of the moving scopes ({', '.join(found[:3])}); "
        "crossfade status says why. Mend them in new, or leave them behind: crossfade rollback --accept-debt"
    )


def count_moving(
    engine: Engine, store: Store, parts: Sequence[Part], salt: str, before: Stand, after: Stand
) -> tuple[int, int]:
    """How many scopes with records in them move, and how many records they have."""
    scopes = union_all(*(select(part.scope_of(part.table.c).label("scope")) for part in parts)).subquery("scopes")
    moving = func.count(distinct(scopes.c.scope)), func.count()
    statement = select(*moving).where(moves(scopes.c.scope, salt, before, after))
    with speaking_for(store), engine.connect() as connection:
        row = connection.execute(statement).one()
    return int(row[0]), int(row[1])
