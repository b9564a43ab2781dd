"""connectors/pic/iso20022 with its folder and ledger: once in one file, whatever is killed; a file is believed whole or not."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from defusedxml.ElementTree import fromstring
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from connectors.pic.base import Answer, Call, NotSentError
from connectors.pic.calls import OneByOne
from connectors.pic.conformance import kit
from connectors.pic.conformance.iso20022_stand import Heard, Iso20022Stand, statement, status
from connectors.pic.iso20022.exchange import ARRIVING_S
from connectors.pic.iso20022.plugin import Iso20022, make
from connectors.pic.iso20022.transfers import end_to_end_id
from connectors.pic.options import PicOptions, PicSettingError
from schemas.codec import encode_request
from tests.builders import a_request

ROOT = Path(__file__).parents[2]
IBAN = "DE89370400440532013000"


def options(folder: Path, **named: str) -> PicOptions:
    accounts = folder.parent / "accounts.json"
    if not accounts.exists():
        ours = {"debtors": {"tok_1": {"iban": IBAN}}, "creditors": {"c1": {"iban": "FR1420041010050500013M02606"}}}
        accounts.write_text(json.dumps({"t1": ours}))
    defaults = {"folder": str(folder), "accounts": str(accounts), "initiator": "Shop", "wait_s": "0", "poll_s": "60"}
    return PicOptions(name="iso20022", settings=defaults | named)


def made(folder: Path, **named: str) -> Iso20022:
    plugin = make("iso20022", options(folder, **named))
    assert isinstance(plugin, Iso20022)
    return plugin


def call(number: int = 1, **named: Any) -> Call:
    fields: dict[str, Any] = {
        "attempt_id": f"t1|p{number}|1",
        "tenant": "t1",
        "payment_id": f"p{number}",
        "amount_minor": 1_234,
        "currency": "EUR",
        "token": "tok_1",
        "method": "bank_account",
        "request": encode_request(a_request(payment_id=f"p{number}")),
    }
    return Call(**(fields | named))


def take(plugin: Iso20022, asked: Call) -> Answer:
    return asyncio.run(plugin.authorize(asked))


def find(plugin: Iso20022, asked: Call) -> Answer | None:
    found = plugin.exchange.ledger.find(asked.attempt_id)
    return found[1] if found else None


def sent(folder: Path) -> list[Heard]:
    """Every transfer in the outgoing folder."""
    heard = []
    for path in sorted((folder / "outgoing").iterdir()):
        root = fromstring(path.read_bytes())
        message_id = root.findtext(".//{*}MsgId")
        for each in root.iterfind(".//{*}EndToEndId"):
            heard.append(Heard(each.text, message_id, f"{message_id}-1", IBAN, "12.34", "EUR"))
    return heard


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "bank"


@pytest.fixture
def plugin(folder: Path) -> Iterator[Iso20022]:
    plugin = made(folder)
    yield plugin
    plugin.exchange.ledger.close()


def test_a_payment_is_pending_until_the_bank_has_booked_it(plugin: Iso20022, folder: Path) -> None:
    """Taken, sent once, accepted, booked; a repeat says the same and sends nothing."""
    pending = Answer("pending", "processing", end_to_end_id("t1|p1|1"))
    assert find(plugin, call()) is None
    assert take(plugin, call()) == pending
    plugin.turn()
    assert take(plugin, call()) == pending
    plugin.turn()
    (heard,) = sent(folder)
    assert heard.end_to_end_id == end_to_end_id("t1|p1|1")
    (folder / "incoming" / "1.xml").write_text(status(heard, "ACSP"))
    plugin.turn()
    assert find(plugin, call()) == pending
    (folder / "incoming" / "2.xml").write_text(statement([heard]))
    plugin.turn()
    assert find(plugin, call()) == Answer("succeeded", "", heard.end_to_end_id)
    assert take(plugin, call()) == find(plugin, call())
    plugin.turn()
    assert len(sent(folder)) == 1
    assert sorted(path.name for path in (folder / "done").iterdir()) == ["1.xml", "2.xml"]


def test_a_rejection_is_final(plugin: Iso20022, folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Nothing that comes later changes it, but it is said aloud; a file told twice changes nothing."""
    take(plugin, call())
    plugin.turn()
    (heard,) = sent(folder)
    for number in range(2):
        (folder / "incoming" / f"{number}.xml").write_text(status(heard, "RJCT", "AC04"))
        plugin.turn()
        assert find(plugin, call()) == Answer("declined", "closed_account", heard.end_to_end_id)
    assert not caplog.records
    (folder / "incoming" / "2.xml").write_text(statement([heard]))
    plugin.turn()
    assert find(plugin, call()) == Answer("declined", "closed_account", heard.end_to_end_id)
    assert "after it declined" in caplog.text
    assert IBAN not in caplog.text


def test_a_whole_file_is_rejected(plugin: Iso20022, folder: Path) -> None:
    """All its transfers are, but one that has a status of its own; transfers of other files are not."""
    for number in (1, 2):
        take(plugin, call(number))
    plugin.turn()
    first, second = sent(folder)
    take(plugin, call(3))
    plugin.turn()
    body = status(first, "ACSP").replace(
        "</OrgnlGrpInfAndSts>",
        "<GrpSts>RJCT</GrpSts><StsRsnInf><Rsn><Cd>FF01</Cd></Rsn></StsRsnInf></OrgnlGrpInfAndSts>",
    )
    (folder / "incoming" / "1.xml").write_text(body)
    plugin.turn()
    found = [find(plugin, call(number)) for number in (1, 2, 3)]
    assert [(each.outcome, each.reason) for each in found if each] == [
        ("pending", "processing"),
        ("declined", "invalid_request"),
        ("pending", "processing"),
    ]
    assert second.message_id == first.message_id


def test_another_amount_is_never_a_success(plugin: Iso20022, folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    """It stays pending, and somebody is told; the right booking still counts."""
    take(plugin, call(amount_minor=1_235))
    plugin.turn()
    (heard,) = sent(folder)
    (folder / "incoming" / "1.xml").write_text(statement([heard]))
    plugin.turn()
    assert find(plugin, call()) == Answer("pending", "report_differs", heard.end_to_end_id)
    assert "does not fit" in caplog.text
    (folder / "incoming" / "2.xml").write_text(statement([heard]).replace("12.34", "12.35"))
    plugin.turn()
    assert (find(plugin, call()) or Answer("unsent")).outcome == "succeeded"


def test_what_was_never_sent_is_not_booked(folder: Path) -> None:
    """A bank cannot know a transfer that is still waiting for its file."""
    plugin = made(folder, wait_s="86400", cut_off="00:00", calendar="t2-2026")
    take(plugin, call())
    heard = Heard(end_to_end_id("t1|p1|1"), "M1", "M1-1", IBAN, "12.34", "EUR")
    for number, body in enumerate((statement([heard]), status(heard, "ACSC"), status(heard, "RJCT", "AC01"))):
        (folder / "incoming" / f"{number}.xml").write_text(body)
    plugin.turn()
    assert find(plugin, call()) == Answer("pending", "processing", heard.end_to_end_id)
    plugin.exchange.ledger.close()


def test_one_attempt_with_other_content_is_a_duplicate(plugin: Iso20022, folder: Path) -> None:
    """Declined; the first stands."""
    take(plugin, call())
    assert take(plugin, call(amount_minor=1)).reason == "duplicate"
    plugin.turn()
    assert len(sent(folder)) == 1


#: Takes two transfers unless they are there, and is killed when its delivery has reached a step.
KILLED = """
import asyncio, os, signal, sys
from pathlib import Path
from tests.unit.test_iso20022_exchange import call, made
folder, step = Path(sys.argv[1]), sys.argv[2]
plugin = made(folder, wait_s="0")
def reached(name):
    if name == step:
        os.kill(os.getpid(), signal.SIGKILL)
for number in (1, 2):
    plugin._take(call(number))
reached("taken")
deliver = plugin.exchange.deliver
plugin.exchange.deliver = lambda: (reached("closed"), deliver(reached))
plugin.turn()
"""


@pytest.mark.parametrize("taken_away", [False, True], ids=["the file lies there", "the bank took it"])
@pytest.mark.parametrize("step", ["taken", "closed", "written", "staged", "renamed", "sent"])
def test_a_kill_sends_nothing_twice(folder: Path, step: str, taken_away: bool) -> None:
    """Killed (SIGKILL) at each step, then started again: each transfer is in exactly one file, and each file came once."""
    made(folder).exchange.ledger.close()
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    }
    ended = subprocess.run([sys.executable, "-c", KILLED, folder, step], env=environment, timeout=60)
    assert ended.returncode == -signal.SIGKILL
    heard = sent(folder)
    assert len(heard) == (2 if step in ("renamed", "sent") else 0)
    if taken_away:
        for path in (folder / "outgoing").iterdir():
            path.unlink()
    else:
        heard = []
    again = made(folder)
    for number in (1, 2):
        assert take(again, call(number)).outcome == "pending"
    again.turn()
    again.turn()
    heard += sent(folder)
    assert sorted(each.end_to_end_id for each in heard) == sorted(end_to_end_id(f"t1|p{n}|1") for n in (1, 2))
    assert len({each.message_id for each in heard}) == 1
    assert list((folder / "staging").iterdir()) == []
    again.exchange.ledger.close()


def test_two_processes_share_a_folder(folder: Path) -> None:
    """While one works in it the other leaves files alone, and both take transfers."""
    one, other = made(folder), made(folder)
    take(one, call(1))
    take(other, call(1))
    take(other, call(2))
    with one.exchange.alone() as alone:
        assert alone
        other.turn()
        assert sent(folder) == []
    other.turn()
    one.turn()
    assert len(sent(folder)) == 2
    one.exchange.ledger.close()
    other.exchange.ledger.close()


def test_files_are_the_owners_and_sort(folder: Path) -> None:
    """Nobody else may read account numbers; names are in the order of the files, with at most so many transfers each."""
    plugin = made(folder, transfers_max="2")
    for number in range(5):
        take(plugin, call(number))
    plugin.turn()
    files = sorted((folder / "outgoing").iterdir())
    assert [path.read_text().count("<EndToEndId>") for path in files] == [2, 2, 1]
    for path in (*files, folder / "ledger.db"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE((folder / "outgoing").stat().st_mode) == 0o700
    plugin.exchange.ledger.close()


def test_a_file_that_is_still_arriving_is_waited_for(plugin: Iso20022, folder: Path) -> None:
    """Cut off it tells nothing; whole it does. One that stays as it is for a minute is put aside, and no link is followed."""
    take(plugin, call())
    plugin.turn()
    (heard,) = sent(folder)
    body = statement([heard])
    incoming = folder / "incoming" / "1.xml"
    incoming.write_text(body[:-20])
    (folder / "incoming" / "2.xml.part").write_text(body)
    (folder.parent / "outside.xml").write_text(body)
    (folder / "incoming" / "3.xml").symlink_to(folder.parent / "outside.xml")
    for _ in range(2):
        plugin.turn()
        assert (find(plugin, call()) or Answer("unsent")).outcome == "pending"
        assert incoming.exists()
    old = time.time() - ARRIVING_S - 1
    os.utime(incoming, (old, old))
    plugin.turn()
    assert (folder / "refused" / "1.xml").exists()
    incoming.write_text(body)
    plugin.turn()
    assert (find(plugin, call()) or Answer("unsent")).outcome == "succeeded"
    assert sorted(path.name for path in (folder / "incoming").iterdir()) == ["2.xml.part", "3.xml"]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    bodies=st.lists(st.one_of(st.binary(max_size=200), st.text(max_size=200).map(str.encode)), min_size=1, max_size=3)
)
def test_rubbish_stops_nothing(plugin: Iso20022, folder: Path, bodies: list[bytes]) -> None:
    """Whatever lies in the folder, the next file is read."""
    take(plugin, call())
    for number, body in enumerate(bodies):
        (folder / "incoming" / f"{number}.xml").write_bytes(body)
    plugin.turn()
    assert (find(plugin, call()) or Answer("unsent")).outcome == "pending"


def test_accounts_are_the_tenants_own(plugin: Iso20022, folder: Path) -> None:
    """Neither a token nor a creditor of another tenant is found. A new file counts at once; a broken one sends nothing."""
    assert take(plugin, call(tenant="t2")).reason == "invalid_account"
    assert take(plugin, call(token="tok_2")).reason == "invalid_account"
    accounts = folder.parent / "accounts.json"
    accounts.write_text(accounts.read_text().replace("tok_1", "tok_2").replace('"t1"', '"t2"'))
    assert take(plugin, call(2, tenant="t2", token="tok_2")).outcome == "pending"
    accounts.write_text("{")
    with pytest.raises(NotSentError):
        take(plugin, call(3))
    assert find(plugin, call(3)) is None


@pytest.mark.parametrize(
    ("named", "says"),
    [
        ({"version": "08"}, "PTR_PIC_ISO20022_VERSION must be 03 or 09"),
        ({"cut_off": "25:00"}, "PTR_PIC_ISO20022_CUT_OFF must be a time"),
        ({"calendar": "moon"}, "PTR_PIC_ISO20022_CALENDAR is not known"),
        ({"currencies": "EUR,XXX"}, "PTR_PIC_ISO20022_CURRENCIES must be"),
        ({"transfers_max": "0"}, "PTR_PIC_ISO20022_TRANSFERS_MAX must be a number from 1 to 9999"),
        ({"initiator": "\u2060"}, "PTR_PIC_ISO20022_INITIATOR must have Latin letters"),
        ({"accounts": "/no/such/file"}, "PTR_PIC_ISO20022_ACCOUNTS cannot be used"),
    ],
)
def test_wrong_settings_are_named(folder: Path, named: dict[str, str], says: str) -> None:
    """By their variable, at the start."""
    with pytest.raises(PicSettingError, match=says.replace(".", r"\.")):
        made(folder, **named)


def test_a_lost_ledger_sends_nothing(folder: Path) -> None:
    """Without it everything that was sent would be taken for new."""
    plugin = made(folder)
    take(plugin, call())
    plugin.turn()
    plugin.exchange.ledger.close()
    for path in folder.glob("ledger.db*"):
        path.unlink()
    with pytest.raises(PicSettingError, match="FOLDER cannot be used"):
        made(folder)


def test_files_are_made_while_nobody_calls(folder: Path) -> None:
    """One call starts it."""

    async def one() -> list[Heard]:
        pic = OneByOne("iso20022", made(folder, poll_s="0.01"), timeout_s=5.0)
        (answer,) = await pic.perform([call()])
        assert answer.outcome == "pending"
        for _ in range(500):
            if sent(folder):
                break
            await asyncio.sleep(0.01)
        await pic.close()
        return sent(folder)

    assert len(asyncio.run(one())) == 1


def test_the_kit_passes() -> None:
    """All that the plugin says it can do."""
    results = asyncio.run(kit.check(kit.of("iso20022", make), Iso20022Stand()))
    assert [(result.scenario.name, result.why) for result in results if result.verdict == "fail"] == []
    assert sum(result.verdict == "pass" for result in results) == 29
