"""A circuit breaker: a PIC that does not answer is left alone for a while. It takes the time, it has no clock."""

from __future__ import annotations

from typing import Final, Literal

#: One or two unknown answers are the weather; this many in a row are an outage.
UNKNOWN_IN_A_ROW_MAX: Final = 5
#: How long nothing is called: long enough to be a relief, short against the retry delays.
OPEN_S: Final = 10.0
#: The longest that it grows to. A probe that is not answered holds up the intents of its batch for a whole time-out.
OPEN_S_MAX: Final = 60.0

State = Literal["closed", "half_open", "open"]


class Breaker:
    """Closed: calls go through. Open: none does. Half open: after ``open_s``, one call goes through as a probe.

    A known answer closes it, whatever it says; ``unknown_max`` unknown ones in a row, or an unknown probe, open it. Each
    probe that fails doubles the time, up to ``open_s_max``. A probe that is never recorded (its task was cancelled) counts as
    unknown once that time has passed again. Times are seconds of one monotonic clock.
    """

    def __init__(
        self, unknown_max: int = UNKNOWN_IN_A_ROW_MAX, open_s: float = OPEN_S, open_s_max: float = OPEN_S_MAX
    ) -> None:
        if unknown_max < 1 or not 0 < open_s <= open_s_max:
            raise ValueError(
                f"unknown_max={unknown_max} must be at least 1, open_s={open_s} above 0 and at most open_s_max={open_s_max}"
            )
        self._unknown_max = unknown_max
        self._first_s, self._max_s = open_s, open_s_max
        self._open_s = open_s
        self._unknown = 0
        self._probe_at_s: float | None = None
        self._probing = False

    @property
    def is_open(self) -> bool:
        """Whether calls are held back, but for probes."""
        return self._probe_at_s is not None

    def state(self, now_s: float) -> State:
        """What it does now; half open when the next call is a probe, or one is under way."""
        if self._probe_at_s is None:
            return "closed"
        return "half_open" if self._probing or now_s >= self._probe_at_s else "open"

    def next_call(self, now_s: float) -> State:
        """What would become of a call made now: open, it would not leave (one that finds out is under way, too); half open, it
        would find out whether the PIC answers again; closed, it would leave."""
        if self._probe_at_s is None:
            return "closed"
        return "half_open" if now_s >= self._probe_at_s else "open"

    def allows(self, now_s: float) -> bool:
        """Whether a call may be made now. A yes while open is the probe: the next one is a no."""
        if self._probe_at_s is None:
            return True
        if now_s < self._probe_at_s:
            return False
        self._probe_at_s = now_s + self._open_s
        self._probing = True
        return True

    def record(self, now_s: float, *, known: bool) -> None:
        """What became of a call that was allowed."""
        failed_probe = self._probing and not known
        self._probing = False
        if known:
            self._unknown = 0
            self._probe_at_s = None
            self._open_s = self._first_s
            return
        if failed_probe:
            self._open_s = min(2 * self._open_s, self._max_s)
        self._unknown += 1
        if self._unknown >= self._unknown_max:
            self._probe_at_s = now_s + self._open_s
