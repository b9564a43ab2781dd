"""Types of the compiled module, ``native_windows.pyx``. Both raise :class:`OverflowError` for sums of more than 64 bits."""

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
