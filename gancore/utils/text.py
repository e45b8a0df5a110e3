"""Numbers as text: durations, sizes, and values with few digits."""

from __future__ import annotations

_UNITS = "", "k", "M", "G", "T"
_WIDEST = 1e7
"""Numbers from here on are written with an exponent."""


def duration(seconds: float) -> str:
    """Return a time as m:ss or h:mm:ss, and in days from 48 hours on."""
    hours, rest = divmod(round(seconds), 3600)
    if hours >= 48:
        return f"{hours / 24:.1f} days"
    return f"{hours}:{rest // 60:02d}:{rest % 60:02d}" if hours else f"{rest // 60}:{rest % 60:02d}"


def short_number(number: float | None) -> str:
    """Return a number with four significant digits, and without decimals from 1,000 on; `-` for None and NaN."""
    if number is None or number != number:
        return "-"
    return f"{number:,.0f}" if 999.95 <= abs(number) < _WIDEST else f"{number:.4g}"


def with_unit_prefix(number: float) -> str:
    """Return a number of at least 0 with three digits and a unit prefix, as in `1.21 M`."""
    power = max((power for power in range(len(_UNITS)) if number >= 999.5 * 1000 ** (power - 1)), default=0)
    value = number / 1000**power
    return f"{value:.3g} {_UNITS[power]}" if value < 999.5 else f"{value:,.0f} {_UNITS[power]}"


def file_size(count: float) -> str:
    """Return a number of bytes with three digits and a unit: `12 B`, `1.21 MB`. Units are powers of 1,000."""
    return f"{with_unit_prefix(count)}B"
