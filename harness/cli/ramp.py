"""``crossfade ramp``: change the share of operations that new serves."""

from __future__ import annotations

import click

from adapters.prompts.migration import Stores, opened
from harness.cli.app import PERCENT, App, command, facts, reason_option
from harness.cli.authority import act_on, despite_option, dry_run_option
from harness.cli.autoramp import Retreated, ramp_by_itself, steer
from harness.cli.shares import Wish
from harness.errors import ConfigError
from harness.routing import Store


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
@click.option(
    "--pin",
    "pins",
    type=Pin(),
    multiple=True,
    help="Give a scope, or an organization, to a store whatever the percent says.",
)
@click.option("--auto", is_flag=True, help="Follow the plan of [ramp] as long as the gates pass.")
@click.option("--pause", is_flag=True, help="Let the automatic ramp stay where it is.")
@click.option("--resume", is_flag=True, help="Let the automatic ramp go on.")
@click.option("--stop", is_flag=True, help="End the automatic ramp where it is.")
@click.option(
    "--unpin",
    "unpins",
    metavar="NAME",
    multiple=True,
    help="Let the percent decide again over a scope or an organization.",
)
@despite_option
@dry_run_option
@reason_option
def ramp(
    app: App,
    percent: float | None,
    reads: float | None,
    writes: float | None,
    shadow: float | None,
    pins: tuple[tuple[str, Store], ...],
    unpins: tuple[str, ...],
    despite: tuple[str, ...],
    dry_run: bool,
    reason: str,
    **steer_by: bool,
) -> None:
    """Change the route: PERCENT of reads and writes, or each on its own. Running processes follow within a second.

    Writes move by scope: what is on its way is carried over, writers are held back for milliseconds, and from then on
    only the other store accepts them. More is refused until a verification has passed; less never is.

    With --auto it goes through the steps of [ramp] by itself: on when every gate passes, back when one fails (exit code
    3), and it holds while one is inconclusive. It stops when the route is changed by hand. After a crash give it again.
    """
    if len(pins) > 1 or len(unpins) > 1:
        raise click.UsageError("one move at a time: give one --pin or one --unpin")
    pin, unpin = next(iter(pins), None), next(iter(unpins), None)
    if steering := [name for name, given in steer_by.items() if given]:
        others = any(each is not None for each in (percent, reads, writes, shadow, pin, unpin)) or dry_run or despite
        if others or len(steering) > 1:
            raise click.UsageError(f"--{steering[0]} goes by the plan in the settings; give it alone, or with --reason")
        with opened(app.settings) as stores:
            by_itself = steering == ["auto"]
            try:
                document = ramp_by_itself(app, stores, reason) if by_itself else steer(stores, steering[0], reason)
            except Retreated as retreated:
                if app.json:  # people read the error, which says the same
                    app.result(retreated.document, lambda _: None)
                raise
        app.result(document, lambda out: out.print(facts(document)))
        return
    if all(each is None for each in (percent, reads, writes, shadow, pin, unpin)):
        raise click.UsageError("give PERCENT, --reads, --writes, --shadow, --pin, --unpin or --auto")
    shares = percent if reads is None else reads, percent if writes is None else writes
    if (pin or unpin) and (shares[1] is not None or (pin and unpin)):
        raise click.UsageError("one move at a time: give --pin, --unpin, or a percent of writes")
    wish = Wish(*shares, shadow, pin, unpin)
    with opened(app.settings) as stores:
        _check_names(stores, pin, unpin)
        act_on(app, stores, "ramp", wish, reason=reason, dry_run=dry_run, despite=despite)


def _check_names(stores: Stores, pin: tuple[str, Store] | None, unpin: str | None) -> None:
    """Raise ConfigError for a name that nothing bears: it is misspelt."""
    if pin is not None and not stores.is_place(pin[0]):
        raise ConfigError(
            f"{pin[0]!r} is neither an organization nor a scope of a project in legacy; crossfade assess lists the "
            "organizations"
        )
    pinned = sorted(stores.routes.view().route.pins)
    if unpin is not None and unpin not in pinned:
        raise ConfigError(f"{unpin!r} is not pinned; {', '.join(pinned[:5]) or 'nothing'} is")
