"""What the route is to be, given what it is, and how it becomes so: for ``ramp``, by hand or by itself."""

from __future__ import annotations

from dataclasses import replace

from adapters.prompts.migration import Stores
from harness.cli.app import App
from harness.cli.authority import carry_out
from harness.cli.planning import plan
from harness.moving import Stand
from harness.phases import Phase, at_least
from harness.routing import Route, Store


class Wish:
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
        if self._writes is not None:
            # Scopes that stayed behind move with the others now, unless they still have to stay.
            left = self._behind(now, writes)
            pins = {name: store for name, store in pins.items() if name not in left}
            automatic -= left
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

    @staticmethod
    def _behind(now: Stand, writes: float) -> set[str]:
        """Scopes that an earlier act in this direction has left: in quarantine, or being written to."""
        # By the pins that stand: a store that was aligned after a restore may still name others as automatic.
        stay = {name: store for name, store in now.pins.items() if name in now.automatic}
        behind = {store: {name for name in stay if stay[name] is store} for store in Store}
        up = writes > now.writes_percent or (writes == now.writes_percent and behind[Store.LEGACY])
        return behind[Store.LEGACY if up else Store.NEW]


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
    carry_out(app, stores, lambda: plan(stores, "ramp", Wish(reads, writes, shadow)), reason)
    return stores.routes.view().route
