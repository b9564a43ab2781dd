"""Settings: defaults, overrides, files for secrets, and a message that names the variable for every wrong value."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.settings import STAGES, Settings, SettingsError, load


def test_without_an_environment_there_are_defaults() -> None:
    """Nothing has to be set to begin; nothing listens beyond this machine and views are closed."""
    settings = load({})
    assert settings == Settings()
    assert (settings.stages, settings.web_host, settings.web_token) == (STAGES, "127.0.0.1", "")


def test_stages_run_in_flow_order_whatever_was_said() -> None:
    """And name the group when they are not all."""
    settings = load({"PTR_STAGES": " payee, screening ,payer"})
    assert settings.stages == ("screening", "payer", "payee")
    assert settings.worker_group == "ptr-screening-payer-payee"
    assert load({}).worker_group == "ptr"
    assert load({"PTR_GROUP": "g"}).worker_group == "g"


def test_overrides_win_and_none_is_not_given() -> None:
    """What a command's option says is above the environment."""
    environment = {"PTR_BROKER": "a:1", "PTR_PARTITIONS": "8"}
    settings = load(environment, broker="b:2", partitions=None)
    assert (settings.broker, settings.partitions) == ("b:2", 8)


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("PTR_PARTITIONS", "0"),
        ("PTR_PARTITIONS", "1025"),
        ("PTR_PARTITIONS", "four"),
        ("PTR_PARTITIONS", "nan"),
        ("PTR_REPLICATION", "0"),
        ("PTR_STAGES", "screening,unknown"),
        ("PTR_STAGES", ","),
        ("PTR_LISTS", "ofac"),
        ("PTR_WEB_PORT", "70000"),
        ("PTR_SESSION_TIMEOUT_S", "5.9"),
        ("PTR_SESSION_TIMEOUT_S", "41"),
        ("PTR_SESSION_TIMEOUT_S", "inf"),
        ("PTR_WATCHDOG_S", "4"),
        ("PTR_PIC_TIMEOUT_S", "0"),
        ("PTR_PIC_TIMEOUT_S", "soon"),
    ],
)
def test_a_wrong_value_names_its_variable(variable: str, value: str) -> None:
    """With the value, and what would be right."""
    with pytest.raises(SettingsError, match=variable) as caught:
        load({variable: value})
    assert repr(value) in str(caught.value)


def test_limits_themselves_are_taken() -> None:
    """Both ends."""
    low = load({"PTR_PARTITIONS": "1", "PTR_WEB_PORT": "-1", "PTR_SESSION_TIMEOUT_S": "6"})
    high = load({"PTR_PARTITIONS": "1024", "PTR_WEB_PORT": "65535", "PTR_SESSION_TIMEOUT_S": "40"})
    assert (low.partitions, low.web_port, low.session_timeout_s) == (1, -1, 6.0)
    assert (high.partitions, high.web_port, high.session_timeout_s) == (1024, 65535, 40.0)


def test_secrets_come_from_files(tmp_path: Path) -> None:
    """The variable with _FILE; the plain one wins. Other settings have no such variable."""
    secret = tmp_path / "token"
    secret.write_text("s3cret\n")
    assert load({"PTR_WEB_TOKEN_FILE": str(secret)}).web_token == "s3cret"
    assert load({"PTR_WEB_TOKEN_FILE": str(secret), "PTR_WEB_TOKEN": "plain"}).web_token == "plain"
    assert load({"PTR_BROKER_FILE": str(secret)}).broker == Settings().broker


def test_a_secret_file_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    """Never silently no token."""
    with pytest.raises(SettingsError, match="PTR_WEB_TOKEN_FILE: cannot read"):
        load({"PTR_WEB_TOKEN_FILE": str(tmp_path / "none")})


def test_an_empty_variable_is_not_set() -> None:
    """As compose files leave them."""
    assert load({"PTR_BROKER": "", "PTR_PARTITIONS": "", "PTR_DATADIR": ""}) == Settings()
