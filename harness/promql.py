"""Settings of gates on PromQL: ``[[gates.prometheus]]``, each a query with limits."""

from __future__ import annotations

from urllib.parse import urlsplit

from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass


@dataclass(frozen=True, slots=True, config=ConfigDict(extra="forbid"))
class PrometheusSettings:
    name: str = Field(
        pattern="^[A-Za-z0-9][A-Za-z0-9_-]{0,62}$",
        description='The gate is called "prometheus:" and this name: letters, digits, hyphens and underscores.',
    )
    query: str = Field(
        pattern=r"\S", description="An instant query in PromQL. Every series that it answers has to keep the limits."
    )
    max: float | None = Field(default=None, allow_inf_nan=False, description="No value above it; max, min or both.")
    min: float | None = Field(default=None, allow_inf_nan=False, description="No value below it.")
    url: str = Field(default="", repr=False, description="Another Prometheus than that of gates.prometheus_url.")
    timeout_seconds: float = Field(
        default=5.0, gt=0, le=60, description="An answer later than this is none: the gate is inconclusive."
    )

    def __post_init__(self) -> None:
        if self.max is None and self.min is None:
            raise ValueError(f'the gate "{self.name}" has no limit: give max, min or both')
        if self.max is not None and self.min is not None and self.min > self.max:
            raise ValueError(f'no value can pass the gate "{self.name}": min {self.min:g} is above max {self.max:g}')
        check_address(self.url)

    @property
    def gate(self) -> str:
        return f"prometheus:{self.name}"

    @property
    def limits(self) -> str:
        if self.min is None or self.max is None:
            return f"at most {self.max:g}" if self.max is not None else f"at least {self.min:g}"
        return f"from {self.min:g} to {self.max:g}"


def check_address(url: str) -> None:
    """Raise ValueError for what is neither empty nor a server's address. The text does not show it: it may hold a
    password.
    """
    if not url:
        return
    try:
        parts = urlsplit(url)
        usable = parts.scheme in {"http", "https"} and parts.hostname and parts.port != 0
    except ValueError:  # a port that is no number, a bracket left open
        usable = False
    if not usable or parts.query or parts.fragment or not url.isascii() or not url.isprintable() or " " in url:
        raise ValueError("the address of Prometheus must be http(s)://[USER:PASSWORD@]HOST[:PORT][/PATH]")


def check_gates(gates: tuple[PrometheusSettings, ...], url: str) -> None:
    """Raise ValueError for two gates of one name, an unusable default address, or a gate without any address."""
    check_address(url)
    names = [each.name for each in gates]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(f"prometheus: more than one gate is called {', '.join(twice)}")
    if nowhere := [each.name for each in gates if not (each.url or url)]:
        raise ValueError(
            f"prometheus: where to ask for {', '.join(nowhere)} was not said; set prometheus_url, or "
            "CROSSFADE_PROMETHEUS_URL in the environment"
        )
