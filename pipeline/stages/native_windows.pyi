"""Types of the compiled module, ``native_windows.pyx``."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

# Both raise OverflowError for sums of more than 64 bits.

def payer_facts(
    hours: list[int],
    counts: list[int],
    amounts: list[int],
    smalls: list[int],
    logs: list[int],
    squares: list[int],
    terminals: dict[str, int],
    cards: dict[str, int],
    hour: int,
    terminals_max: int,
    cards_max: int,
) -> tuple[list[int], int | None, int]: ...
def payee_facts(
    hours: list[int],
    counts: list[int],
    amounts: list[int],
    smalls: list[int],
    chargebacks: list[int],
    new_payers: list[int],
    cards: dict[str, int],
    hour: int,
    cards_max: int,
) -> list[int]: ...
def doubles(rows: Iterable[Sequence[int]], width: int) -> bytearray: ...

class Counter:
    """Counts payments as they usually come; of all else it says None and changes nothing."""

    def __init__(
        self,
        *,
        terminals_max: int,
        cards_max: int,
        countries_max: int,
        small_max: int,
        log_steps: int,
        earlier_min: int,
        deviation_min: float,
        z_max: int,
        payer_facts: Callable[..., tuple[list[int], int | None, int]],
        z_milli: Callable[[int | None, int, int, int], int],
    ) -> None: ...
    def add_payer_payment(
        self,
        profile: Any,
        at_ms: int,
        amount_minor: int,
        terminal: str,
        card: str,
        country: str,
        home: str,
        keep_hours: int,
    ) -> list[int] | None: ...
    def add_payee_payment(
        self, profile: Any, at_ms: int, amount_minor: int, card: str, new_payer: bool, keep_hours: int
    ) -> bool | None: ...
