"""``crossfade ramp``: change the share of operations that new serves."""

from __future__ import annotations

from dataclasses import replace

import click

from adapters.prompts.migration import Stores, opened
from harness.cli.app import PERCENT, App, command, reason_option
from harness.cli.authority import act_on, carry_out, despite_option, dry_run_option, plan
from harness.errors import ConfigError
from harness.moving import Stand
from harness.phases import Phase, at_least
from harness.routing import Route, Store


class Pin(click.ParamType[tuple[str, Store]]):
    """``NAME=STORE``: a scope, or the part before its first slash, and where it belongs."""

    name = "name=store"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, Store]:
        name, _, store = str(value).rpartition("=")
        if not name or store not in {each.value for each in Store}:
            self.fail(f"{value!r} is not NAME=legacy or NAME=new", param, ctx)
        return name, Store(store)


@command("crossfade ramp 10 --reason 'no mismatch in a day'")
@click.argument("percent", type=PERCENT, required=False)
@click.option("--reads", type=PERCENT, help="Percent of reads that new serves.")
@click.option("--writes", type=PERCENT, help="Percent of scopes whose writes new takes.")
@click.option("--shadow", type=PERCENT, help="Percent of operations that are compared with the other store.")
@click.option("--pin", type=Pin(), help="Give a scope, or an organization, to a store whatever the percent says.")
@click.option("--unpin", metavar="NAME", help="Let the percent decide again over a scope or an organization.")
@despite_option
@dry_run_option
@reason_option
def ramp(
    app: App,
    percent: float | None,
    reads: float | None,
    writes: float | None,
    shadow: float | None,
    pin: tuple[str, Store] | None,
    unpin: str | None,
    despite: tuple[str, ...],
    dry_run: bool,
    reason: str,
) -> None:
    """Change the route: PERCENT of reads and writes, or each on its own. Running processes follow within a second.

    Writes move by scope: what is on its way is carried over, writers are held back for milliseconds, and from then on
    only the other store accepts them. More is refused until a verification has passed; less never is.
    """
    if all(each is None for each in (percent, reads, writes, shadow, pin, unpin)):
        raise click.UsageError("give PERCENT, --reads, --writes, --shadow, --pin or --unpin")
    shares = percent if reads is None else reads, percent if writes is None else writes
    if (pin or unpin) and (shares[1] is not None or (pin and unpin)):
        raise click.UsageError("one move at a time: give --pin, --unpin, or a percent of writes")
    wish = _Wish(*shares, shadow, pin, unpin)
    with opened(app.settings) as stores:
        if pin is not None and not stores.is_place(pin[0]):
            raise ConfigError(
                f"{pin[0]!r} is neither an organization nor a scope that both stores have a place for; "
                "crossfade assess lists the organizations"
            )
        act_on(app, stores, "ramp", wish, reason=reason, dry_run=dry_run, despite=despite)


class _Wish:
    """What the route is to be, given what it is."""

    def __init__(
        self,
        reads: float | None,
        writes: float | None,
        shadow: float | None = None,
        pin: tuple[str, Store] | None = None,
        unpin: str | None = None,
    ) -> None:
        self._reads, self._writes, self._shadow, self._pin, self._unpin = reads, writes, shadow, pin, unpin

    def __call__(self, now: Stand) -> Stand:
        reads = now.reads_percent if self._reads is None else self._reads
        writes = now.writes_percent if self._writes is None else self._writes
        shadow = now.shadow_percent if self._shadow is None else self._shadow
        pins, automatic = dict(now.pins), now.automatic
        if writes > now.writes_percent:
            # Scopes that were in quarantine move with the others now, unless they still are.
            pins = {name: store for name, store in pins.items() if name not in automatic}
            automatic = frozenset()
        if self._pin is not None:
            pins[self._pin[0]] = self._pin[1]
        if self._unpin is not None:
            pins.pop(self._unpin, None)
        named = {name for name in (self._unpin, self._pin and self._pin[0]) if name}
        after = replace(
            now,
            reads_percent=reads,
            writes_percent=writes,
            shadow_percent=shadow,
            pins=pins,
            automatic=automatic - named,
        )
        return replace(after, phase=_phase(now, after))


def _phase(now: Stand, after: Stand) -> Phase:
    """Where a ramp leads: to the parallel run, and beyond it once new serves a share. Never past a cutover."""
    if after.phase in {Phase.IDLE, Phase.PREPARED}:
        return Phase.SHADOWING  # which is refused by name
    serves = after.reads_percent > 0 or after.writes_percent > 0 or Store.NEW in after.pins.values()
    if serves and not (at_least(now.phase, Phase.RAMPING) and now.phase is not Phase.ROLLED_BACK):
        return Phase.RAMPING
    if now.phase is Phase.CUT_OVER and after.writes_percent < 100:
        return Phase.RAMPING  # which is refused by name: rollback is the way back
    return Phase.SHADOWING if now.phase is Phase.BACKFILLED else now.phase


def ramp_shares(
    app: App, stores: Stores, reads: float | None, writes: float | None, reason: str, shadow: float | None = None
) -> Route:
    """Change the shares as the command does; the route afterwards."""
    carry_out(app, stores, lambda: plan(stores, "ramp", _Wish(reads, writes, shadow)), reason)
    return stores.routes.view().route
