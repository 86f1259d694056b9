"""How numbers, durations and lists of names are put in words: everywhere the same."""

from __future__ import annotations

from collections.abc import Sequence


def count(n: int) -> str:
    return f"{n:,}"


def counted(n: int, one: str, many: str | None = None) -> str:
    """``1 row``, ``1,234 rows``."""
    return f"{count(n)} {one if n == 1 else many or one + 's'}"


def share(part: float) -> str:
    """A share from 0 to 1 as a percentage of three digits. Never rounded to nothing, nor to the whole."""
    if 0 < part < 0.00001:
        return "under 0.001 %"
    if 0.9995 <= part < 1:
        return "over 99.9 %"
    return f"{part * 100:.3g} %"


# Below the first number of seconds, in units of the second.
_UNITS = (
    (0.9995e-3, 1e-6, "µs"),
    (0.9995, 1e-3, "ms"),
    (100.0, 1.0, "s"),
    (5_400.0, 60.0, "min"),
    (172_800.0, 3_600.0, "h"),
)


def duration(seconds: float) -> str:
    """Seconds in the unit that suits them, to three digits."""
    if not seconds:
        return "0 s"
    size, unit = next(((size, unit) for below, size, unit in _UNITS if abs(seconds) < below), (86_400.0, "days"))
    number = seconds / size
    return f"{number:,.0f} {unit}" if abs(number) >= 100 else f"{number:.3g} {unit}"


def size(octets: float) -> str:
    """Bytes in the unit that suits them, to three digits."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if octets < 999.5:
            return f"{octets:.3g} {unit}"
        octets /= 1000
    return f"{octets:.3g} TB" if octets < 999.5 else f"{octets:,.0f} TB"


def named(names: Sequence[str], most: int = 6, in_all: int = 0) -> str:
    """``a``, ``a and b``, ``a, b and c``; beyond ``most``: ``a, b and 17 more``. ``in_all``: if these are not all."""
    left = max(in_all, len(names)) - min(most, len(names))
    shown = [*names[:most], f"{count(left)} more"] if left else list(names)
    return " and ".join(filter(None, (", ".join(shown[:-1]), *shown[-1:])))
