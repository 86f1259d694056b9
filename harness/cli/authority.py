"""What ramp, cutover and rollback share: the plan, what stands in its way, and the act."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

import click
from rich.console import Console

from adapters.postgres.crossing import count_moving
from adapters.postgres.ledger.evidence import EvidenceBook
from adapters.postgres.ledger.locks import command_lock
from adapters.postgres.ledger.statistics import StatisticsBook
from adapters.prompts.migration import Stores
from harness.cli.app import App, actor, facts
from harness.cli.report import gather
from harness.errors import IllegalPhase, MismatchFound, Overtaken, Refused
from harness.failpoints import passing
from harness.gates import evaluate
from harness.moving import Act, Stand
from harness.phases import NEXT_STEP, Phase, path
from harness.records import Verdict
from harness.routing import Route, Store, group
from harness.words import counted

LOCK = "authority"
_PLANS = 5  # made for one act, at most
_ACTS = 6  # that a ramp becomes, at most
# Without these nobody could say who has authority, or the last step would be taken from between two others.
_INSUPERABLE = {"tenants", "copied", "guard", "scope_policy", "authority", "unfinished"}


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


def despite_option(function: Callable[..., Any]) -> Callable[..., Any]:
    """``--despite``: go on although something named stands in the way; kept in the ledger."""
    told = "Go on although this gate or obstacle stands in the way; repeatable, and kept in the ledger."
    return click.option("--despite", multiple=True, metavar="NAME", help=told)(function)


def dry_run_option(function: Callable[..., Any]) -> Callable[..., Any]:
    return click.option("--dry-run", is_flag=True, help="Print the plan and what stands in its way; change nothing.")(
        function
    )


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


def overruling(obstacles: Mapping[str, str], despite: Collection[str]) -> dict[str, str]:
    """The obstacles that are left; some cannot be overruled."""
    return {name: text for name, text in obstacles.items() if name in _INSUPERABLE or name not in despite}


def say_in_vain(app: App, despite: Collection[str], obstacles: Collection[str]) -> None:
    """Say which names of --despite overrule nothing: one may be misspelt."""
    for name in sorted(set(despite).difference(obstacles)):
        app.say(f"crossfade: --despite {name}: nothing of that name stands in the way")


def losing(before: Stand, after: Stand, salt: str) -> Store | None:
    """The store that loses authority over something; the one to begin with where only pins change; None for neither.

    An act goes one way only. Raises Refused for one that would have to go both ways.
    """
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
    return losers.pop() if losers else Store.LEGACY if before.pins != after.pins else None


def _stores_of(stand: Stand, name: str) -> set[Store]:
    """The stores that may have authority over scopes of a group."""
    if (pin := stand.pins.get(name)) is not None:
        return {pin}
    return {0.0: {Store.LEGACY}, 100.0: {Store.NEW}}.get(stand.writes_percent, set(Store))


def _obstacles(stores: Stores, before: Stand, after: Stand, loser: Store | None) -> dict[str, str]:
    found: dict[str, str] = {}
    raising = loser is Store.LEGACY or after.reads_percent > before.reads_percent
    if raising:
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


def carry_out(app: App, stores: Stores, made: Callable[[], Plan], reason: str) -> dict[str, Any]:
    """Make the plan under the lock of all commands that move authority, and carry it out.

    Finishes or undoes first what an earlier command left half done. Raises Refused for a plan with obstacles. The lock
    keeps away who moves authority, but not who moves the phase, as the first parallel run does: then the plan is made
    anew, everything being judged again, a few times at most. Raises Overtaken if even that was in vain.
    """
    with command_lock(stores.new, LOCK):
        recover(app, stores)
        for _ in range(_PLANS - 1):
            with suppress(Overtaken):
                return _act(app, stores, made(), reason)
        return _act(app, stores, made(), reason)


def _act(app: App, stores: Stores, wanted: Plan, reason: str) -> dict[str, Any]:
    """Carry out the plan. Raises Overtaken, with nothing changed, if the stand is another one than the plan's."""
    refuse(wanted.obstacles)
    if not wanted.changes:
        app.say("nothing to change: it is so already")
    elif wanted.loser is None:
        stores.journal.change_shares(
            command=wanted.command,
            before=wanted.before,
            after=wanted.after,
            epoch=wanted.epoch,
            actor=actor(),
            reason=reason,
        )
    else:
        _move(app, stores, wanted, reason)
    return wanted.document() | {"changed": wanted.changes, "epoch": stores.routes.view().route.epoch}


def _move(app: App, stores: Stores, wanted: Plan, reason: str) -> None:
    """Move authority, and then the scopes that were being written to: of those there are fewer each time, and in the
    last of ``_ACTS`` acts none is left behind.

    Those that could not follow stay where they are, and the command says so: what it was asked for has happened.
    """
    act = begin(stores, wanted, reason)
    # A ramp may stop in between. Whatever ends a phase moves all at once.
    spare = max(0, wanted.scopes - 1) if wanted.after.phase is Phase.RAMPING else 0
    busy = stores.mover(act, app.stop, app.say, spare=spare).move(act)
    for more in reversed(range(_ACTS - 1)):
        if not busy:
            return
        app.say(f"{counted(len(busy), 'scope')} that {'is' if len(busy) == 1 else 'are'} being written to will follow")
        act = begin(stores, _following(stores, wanted, busy), f"{reason} (scopes that were being written to)".strip())
        try:
            busy = stores.mover(act, app.stop, app.say, spare=len(busy) - 1 if more else 0).move(act)
        except MismatchFound as error:
            raise MismatchFound(f"the others have moved, but of those that were to follow {error}") from error
        except Refused as error:
            app.say(
                f"crossfade: {counted(len(busy), 'scope')} stayed with {act.loser} ({error}); the next ramp in the "
                "same direction takes them along"
            )
            return


def _following(stores: Stores, first: Plan, busy: Collection[str]) -> Plan:
    """The plan for what an act has left behind."""
    before = stores.stand()
    pins = {name: store for name, store in before.pins.items() if name not in busy}
    after = replace(before, pins=pins, automatic=before.automatic.difference(busy))
    epoch = stores.routes.view().route.epoch + 1
    return Plan(first.command, before, after, first.loser, len(busy), 0, epoch, {})


def refuse(obstacles: Mapping[str, str]) -> None:
    """Raise Refused if anything stands in the way, naming all of it."""
    if obstacles:
        raise Refused("; ".join(f"{name}: {text}" for name, text in obstacles.items()))


def begin(stores: Stores, wanted: Plan, reason: str) -> Act:
    """Note the intention in the journal: from here on the act is finished or undone, whatever happens."""
    assert wanted.loser is not None  # noqa: S101 - the caller has looked; for the type checker
    act = stores.journal.begin(
        wanted.command,
        loser=wanted.loser,
        before=wanted.before,
        after=wanted.after,
        epoch=wanted.epoch,
        actor=actor(),
        reason=reason,
        left_behind=wanted.left_behind,
    )
    passing("move.journalled")
    return act


def recover(app: App, stores: Stores) -> dict[str, Any] | None:
    """Finish or undo the act that a crash left pending, under the lock; what became of it, None if there is none."""
    act = stores.journal.pending()
    if act is None:
        behind = stores.fences.align() if stores.routes_differ() else None
        if behind is None:
            return None
        app.say(f"{behind} had an older route than {behind.other}; it has the newer one now. Run crossfade repair")
        return {"command": "restore", "became": f"{behind} follows {behind.other}"}
    happened = stores.mover(act, app.stop, app.say).recover(act)
    became = "finished" if happened else "undone"
    app.say(f"{act.command} of {act.actor} had been left half done; it is {became} now")
    return {"command": act.command, "became": became}


def show_plan(out: Console, document: dict[str, Any]) -> None:
    before, after = document["before"], document["after"]
    rows: dict[str, object] = {"command": document["command"]}
    for name in ("phase", "reads_percent", "writes_percent", "shadow_percent"):
        was, will_be = before[name], after[name]
        rows[name] = f"{was} → {will_be}" if was != will_be else was
    changed = {name: store for name, store in after["pins"].items() if before["pins"].get(name) != store}
    if changed:
        rows["pinned"] = ", ".join(f"{name} to {store}" for name, store in changed.items())
    if gone := sorted(before["pins"].keys() - after["pins"].keys()):
        rows["unpinned"] = gone
    if document["loser"] is not None:
        gainer = Store(document["loser"]).other
        rows["moves"] = (
            f"{counted(document['scopes'], 'scope')} with {counted(document['records'], 'record')}, to {gainer}"
        )
    if document["left_behind"]:
        rows["left behind"] = f"{len(document['left_behind']):,} records"
    if "epoch" in document:
        rows["epoch"] = document["epoch"]
    out.print(facts(rows))
    show_obstacles(out, document["obstacles"])


def show_obstacles(out: Console, obstacles: Mapping[str, str]) -> None:
    """A line for each, with its name as --despite wants it."""
    for name, text in obstacles.items():
        out.print(f"in the way: {name}: {text}", markup=False, highlight=False, soft_wrap=True)


def act_on(
    app: App,
    stores: Stores,
    command: str,
    wish: Wish,
    *,
    reason: str,
    dry_run: bool,
    gated: bool = False,
    despite: Collection[str] = (),
    left_behind: Callable[[], frozenset[str]] = frozenset,
) -> None:
    """Plan, and unless it is a dry run carry out; print what was done."""

    def made() -> Plan:
        return plan(stores, command, wish, gated=gated, despite=despite, left_behind=left_behind())

    noted = f"{reason} (despite {', '.join(despite)})".strip() if despite else reason
    document = made().document() | {"changed": False} if dry_run else carry_out(app, stores, made, noted)
    say_in_vain(app, despite, {*document["overruled"], *document["obstacles"]})
    app.result(document, lambda out: show_plan(out, document))
    if dry_run:
        refuse(document["obstacles"])
