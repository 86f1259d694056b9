"""What ramp, cutover and rollback share: carrying a plan out, finishing what a crash left, and telling of it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any

import click
from rich.console import Console

from adapters.postgres.ledger.locks import command_lock
from adapters.prompts.migration import Stores
from harness.cli.app import App, actor, facts
from harness.cli.planning import Plan, Wish, check_names, plan, with_debt
from harness.errors import MismatchFound, Overtaken, Refused
from harness.failpoints import passing
from harness.moving import Act
from harness.phases import Phase
from harness.routing import Store
from harness.words import counted

LOCK = "authority"
_PLANS = 5  # made for one act, at most
_ACTS = 6  # that a ramp becomes, at most


def despite_option(function: Callable[..., Any]) -> Callable[..., Any]:
    """``--despite``: go on although something named stands in the way; kept in the ledger."""
    told = "Go on although this gate or obstacle stands in the way; repeatable, and kept in the ledger."
    return click.option("--despite", multiple=True, metavar="NAME", help=told)(function)


def dry_run_option(function: Callable[..., Any]) -> Callable[..., Any]:
    return click.option("--dry-run", is_flag=True, help="Print the plan and what stands in its way; change nothing.")(
        function
    )


def say_in_vain(app: App, despite: Collection[str], obstacles: Collection[str]) -> None:
    """Say which names of --despite overrule nothing: one may be misspelt."""
    for name in sorted(set(despite).difference(obstacles)):
        app.say(f"crossfade: --despite {name}: nothing of that name stands in the way")


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
    if not wanted.changes:
        app.say("nothing to change: it is so already")
        return wanted.document() | {"changed": False, "obstacles": {}, "epoch": stores.routes.view().route.epoch}
    refuse(wanted.obstacles)
    if wanted.loser is None:
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
    return wanted.document() | {"changed": True, "epoch": stores.routes.view().route.epoch}


def _move(app: App, stores: Stores, wanted: Plan, reason: str) -> None:
    """Move authority, and then the scopes that were being written to, fewer each time, in ``_ACTS`` acts at most.

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
        try:
            rest = _following(stores, wanted, busy)
            act = begin(stores, rest, f"{reason} (scopes that were being written to)".strip())
            busy = stores.mover(act, app.stop, app.say, spare=len(busy) - 1 if more else 0).move(act)
        except MismatchFound as error:
            raise MismatchFound(f"the others have moved, but of those that were to follow {error}") from error
        except Refused as error:
            app.say(
                f"crossfade: {counted(len(busy), 'scope')} stayed with {wanted.loser} ({error}); the next ramp in the "
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
    act, done = stores.journal.pending(), None
    if act is not None:
        happened = stores.mover(act, app.stop, app.say).recover(act)
        became = "finished" if happened else "undone"
        app.say(f"{act.command} of {act.actor} had been left half done; it is {became} now")
        done = {"command": act.command, "became": became}
    # An act in a ledger that was restored may be older than what the stores have come to since.
    behind = stores.fences.align() if stores.routes_differ() else None
    if behind is not None:
        app.say(f"{behind} had an older route than {behind.other}; it has the newer one now. Run crossfade repair")
    return done or (None if behind is None else {"command": "restore", "became": f"{behind} follows {behind.other}"})


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
    if document["scopes"]:
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

    check_names(stores, despite)
    if dry_run and (half := stores.journal.pending()) is not None:
        app.say(f"crossfade: {half.command} of {half.actor} is half done, and would be finished or undone first")
    noted = f"{reason} (despite {', '.join(despite)})".strip() if despite else reason
    if dry_run:
        document = with_debt(stores, made()).document() | {"changed": False}
    else:
        document = carry_out(app, stores, made, noted)
    say_in_vain(app, despite, {*document["overruled"], *document["obstacles"]})
    app.result(document, lambda out: show_plan(out, document))
    if dry_run:
        refuse(document["obstacles"])
