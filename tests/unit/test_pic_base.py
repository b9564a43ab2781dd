"""What plugins are written against: calls and answers, decline codes, settings and secrets, entry points."""

from __future__ import annotations

import asyncio
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from connectors.pic import registry
from connectors.pic.base import Abilities, Answer, Call, Notice, NotificationError, Plugin
from connectors.pic.calls import OneByOne
from connectors.pic.declines import STANDARD, DeclineCode, Meaning
from connectors.pic.options import PicOptions, PicSettingError, settings_of
from connectors.pic.registry import UnknownPicError, make_pic

SECRET = "sk_live_never_shown"
CALL = Call(
    attempt_id="aurora|p1|1",
    tenant="aurora",
    payment_id="p1",
    amount_minor=1,
    currency="EUR",
    token="tok_1",
    method="card",
)


class Pays(Plugin):
    """Pays."""

    abilities = Abilities()

    async def authorize(self, call: Call) -> Answer:
        return Answer("succeeded", pic_reference="here")


def make(name: str, options: PicOptions) -> Plugin:
    """What an entry point names."""
    return Pays()


def make_nothing(name: str, options: PicOptions) -> Plugin:
    """A mistake."""
    return object()  # type: ignore[return-value]


def installed(monkeypatch: pytest.MonkeyPatch, **values: str) -> None:
    """Let these plugins be all that are installed."""
    points = [EntryPoint(name.replace("_", "-").rstrip("-"), value, registry.GROUP) for name, value in values.items()]
    monkeypatch.setattr(registry, "entry_points", lambda group: points)


# -- declines ---------------------------------------------------------------------------------------------------------


def test_every_code_has_a_standard_meaning() -> None:
    """By hand: what only time mends may be tried here, what only this PIC refuses elsewhere, the rest nowhere."""
    assert list(STANDARD) == list(DeclineCode)
    here = {code for code, meaning in STANDARD.items() if meaning.retry == "here"}
    elsewhere = {code for code, meaning in STANDARD.items() if meaning.retry == "elsewhere"}
    assert here == {"issuer_unavailable", "try_again_later"}
    assert elsewhere == {"do_not_honor", "currency_not_supported", "not_permitted", "invalid_request", "unsupported"}
    assert STANDARD[DeclineCode.STOLEN_CARD].retry == "never"


def test_a_meaning_answers() -> None:
    """Declined, with its code, what it allows, and the PIC's reference."""
    assert Meaning(DeclineCode.LIMIT_EXCEEDED, "here").answer("ref", 2.5) == Answer(
        "declined", "limit_exceeded", "ref", retry="here", retry_after_s=2.5
    )


# -- notifications ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("signed_at_s", [700.0, 1_000.0, 1_300.0])
def test_a_notification_of_now_may_be_believed(signed_at_s: float) -> None:
    """Five minutes either way: clocks differ, and networks are slow."""
    Notice(headers={}, body=b"", received_at_s=1_000.0).check_time(signed_at_s)


@pytest.mark.parametrize("signed_at_s", [699.9, 1_300.1, float("nan"), float("-inf")])
def test_a_notification_of_another_time_is_a_replay(signed_at_s: float) -> None:
    """Nor is one whose time is no number."""
    with pytest.raises(NotificationError) as caught:
        Notice(headers={}, body=b"", received_at_s=1_000.0).check_time(signed_at_s)
    assert caught.value.reason == "replayed"


# -- settings ---------------------------------------------------------------------------------------------------------


def test_settings_are_those_of_the_pic_and_of_no_other() -> None:
    """``stripe-2`` is not ``stripe``; what is empty counts as not given."""
    environment = {
        "PTR_PIC_STRIPE_BASE_URL": "http://127.0.0.1:1",
        "PTR_PIC_STRIPE_2_BASE_URL": "http://127.0.0.1:2",
        "PTR_PIC_STRIPE_VERSION": "",
        "PTR_PICS": "stripe",
        "PTR_PIC_TIMEOUT_S": "5",
    }
    assert settings_of("stripe", environment) == {"base_url": "http://127.0.0.1:1"}
    assert settings_of("stripe-2", environment) == {"base_url": "http://127.0.0.1:2"}


def test_a_secret_comes_from_a_file_or_from_a_variable(tmp_path: Path) -> None:
    """The file wins, and white space around it is nobody's secret."""
    file = tmp_path / "key"
    file.write_text(f"{SECRET}\n")
    for settings in ({"api_key": SECRET}, {"api_key_file": str(file)}, {"api_key_file": str(file), "api_key": "x"}):
        options = PicOptions(name="stripe-2", settings=settings)
        assert options.has_secret("api_key")
        assert options.secret("api_key") == SECRET


def test_a_missing_setting_is_named_and_no_value_is_shown(tmp_path: Path) -> None:
    """The variable, as it is to be set."""
    (tmp_path / "empty").write_text("\n")
    options = PicOptions(name="stripe-2", settings={"token": SECRET, "dir_file": str(tmp_path), "api_key": " "})
    assert not PicOptions(name="stripe").has_secret("api_key")
    with pytest.raises(PicSettingError, match="PTR_PIC_STRIPE_2_BASE_URL is missing"):
        options.setting("base_url")
    assert options.setting("base_url", "http://x") == "http://x"
    with pytest.raises(PicSettingError, match="PTR_PIC_STRIPE_2_API_KEY_FILE is missing"):
        options.secret("api_key")
    with pytest.raises(PicSettingError, match="PTR_PIC_STRIPE_2_DIR_FILE: cannot read"):
        options.secret("dir")
    with pytest.raises(PicSettingError, match="is empty"):
        PicOptions(name="a", settings={"k_file": str(tmp_path / "empty")}).secret("k")
    assert SECRET not in repr(options)


# -- registry ---------------------------------------------------------------------------------------------------------


def test_this_package_brings_the_simulator() -> None:
    """Its entry point is where a stranger's would be."""
    assert registry.plugins()["simulator"].value == "connectors.pic.simulator:make"


@pytest.mark.parametrize("name", ["simulator", "simulator-2"])
def test_the_registry_makes_simulators(name: str, tmp_path: Path) -> None:
    """In memory, or in a file whose folder it makes."""
    for path in ("", str(tmp_path / "deep" / "ledger.db")):
        pic = make_pic(name, simulator_ledger=path)
        assert pic.name == name
        assert [answer.outcome for answer in asyncio.run(pic.perform([CALL]))] == ["succeeded"]
        asyncio.run(pic.close())
    assert (tmp_path / "deep" / "ledger.db").exists()


@pytest.mark.parametrize("name", ["acme", "", "simulator two", "Simulator", "simulators"])
def test_an_unknown_pic_is_an_error_that_helps(name: str) -> None:
    """It names the PIC, what there is, and the setting."""
    with pytest.raises(UnknownPicError, match=r"begin with one of .*simulator.*PTR_PICS"):
        make_pic(name)


def test_a_plugin_of_somebody_else_is_found_and_asked_in_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    """By its entry point; the longer of two names serves."""
    installed(monkeypatch, bank="nowhere:make", bank_cards=f"{__name__}:make")
    pic = make_pic("bank-cards-2", timeout_s=1)
    assert isinstance(pic, OneByOne)
    assert pic.name == "bank-cards-2"
    assert asyncio.run(pic.perform([CALL, CALL])) == [Answer("succeeded", pic_reference="here")] * 2


def test_what_cannot_be_a_plugin_is_an_error_that_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """A module that is not there, an object that is no plugin, two packages of one name, nothing installed."""
    installed(monkeypatch, bank="nowhere:make", odd=f"{__name__}:make_nothing")
    with pytest.raises(UnknownPicError, match=r"bank .nowhere:make. cannot be loaded"):
        make_pic("bank")
    with pytest.raises(UnknownPicError, match="odd: its plugin is a object"):
        make_pic("odd")
    installed(monkeypatch, bank="a:make", bank_="b:make")
    with pytest.raises(UnknownPicError, match="two plugins are called bank"):
        make_pic("bank")
    installed(monkeypatch)
    with pytest.raises(UnknownPicError, match="none is installed"):
        make_pic("simulator")
