"""Settings: defaults, overrides, files for secrets, and a message that names the variable for every wrong value."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest

from pipeline.settings import STAGES, BrokerAccess, Settings, SettingsError, client_config, load
from tests.integration.secure import make_certificates


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


def secured(folder: Path, **more: str) -> dict[str, str]:
    """An environment for SASL over TLS with a password file."""
    (folder / "password").write_text("s3cret\n")
    return {
        "PTR_BROKER": "kafka-1:9093",
        "PTR_BROKER_SECURITY": "sasl_ssl",
        "PTR_BROKER_USER": "ada",
        "PTR_BROKER_PASSWORD_FILE": str(folder / "password"),
    } | more


def test_a_plain_broker_needs_its_address_only() -> None:
    """Given as settings or as text; more of the client's own settings win."""
    expected = {"bootstrap.servers": "a:1", "security.protocol": "plaintext"}
    assert load({"PTR_BROKER": "a:1"}).access.client_config() == expected
    assert client_config("a:1") == expected
    assert client_config("a:1", {"log_level": 0}) == expected | {"log_level": 0}
    assert load({}).access.faust_credentials() is None


def test_sasl_over_tls_for_both_clients(tmp_path: Path) -> None:
    """librdkafka's names of its settings (CONFIGURATION.md), and Faust's credentials; SCRAM-SHA-512 unless said."""
    access = load(secured(tmp_path)).access
    assert access.client_config() == {
        "bootstrap.servers": "kafka-1:9093",
        "security.protocol": "sasl_ssl",
        "sasl.mechanism": "SCRAM-SHA-512",
        "sasl.username": "ada",
        "sasl.password": "s3cret",
    }
    credentials = access.faust_credentials()
    assert (credentials.username, credentials.password) == ("ada", "s3cret")
    assert (credentials.protocol.value, credentials.mechanism.value) == ("SASL_SSL", "SCRAM-SHA-512")
    assert credentials.ssl_context.verify_mode == ssl.CERT_REQUIRED
    assert credentials.ssl_context.check_hostname


def test_certificates_for_both_clients(tmp_path: Path) -> None:
    """Our own and its key, and who signed the brokers'."""
    make_certificates(tmp_path)
    files = {
        name: str(tmp_path / file) for name, file in (("CA", "ca.pem"), ("CERT", "client.crt"), ("KEY", "client.key"))
    }
    environment = {"PTR_BROKER_SECURITY": "SSL"} | {f"PTR_BROKER_{name}": file for name, file in files.items()}
    access = load(environment).access
    assert access.client_config() == {
        "bootstrap.servers": "127.0.0.1:9092",
        "security.protocol": "ssl",
        "ssl.ca.location": files["CA"],
        "ssl.certificate.location": files["CERT"],
        "ssl.key.location": files["KEY"],
    }
    credentials = access.faust_credentials()
    assert credentials.protocol.value == "SSL"
    assert [dict(pair[0] for pair in ca["subject"]) for ca in credentials.context.get_ca_certs()] == [
        {"commonName": "Test authority"}
    ]


def test_the_password_is_in_nothing_that_is_shown(tmp_path: Path) -> None:
    """Neither settings nor access nor a child's environment hold it; as text an access is its addresses."""
    settings = load(secured(tmp_path))
    shown = f"{settings!r} {settings.access!r} {settings.access.environment()} {settings.access.faust_credentials()!r}"
    assert "s3cret" not in shown
    assert str(settings.access) == "kafka-1:9093"


def test_a_child_gets_the_same_access_and_inherits_nothing(tmp_path: Path) -> None:
    """Also a plain one, whatever is set around it."""
    around = secured(tmp_path)
    assert load(around | load(around).access.environment()).access == load(around).access
    plain = BrokerAccess(addresses="127.0.0.1:1")
    assert load(around | plain.environment()).access == plain


@pytest.mark.parametrize(
    ("more", "named"),
    [
        ({"PTR_BROKER_SECURITY": "tls"}, "PTR_BROKER_SECURITY: 'tls' is wrong: choose from plaintext, ssl"),
        ({"PTR_BROKER_SASL_MECHANISM": "GSSAPI"}, "PTR_BROKER_SASL_MECHANISM.*SCRAM-SHA-256"),
        ({"PTR_BROKER_SECURITY": ""}, "PTR_BROKER_USER: PTR_BROKER_SECURITY=plaintext uses no user"),
        ({"PTR_BROKER_SECURITY": "ssl"}, "PTR_BROKER_USER: PTR_BROKER_SECURITY=ssl uses no user"),
        ({"PTR_BROKER_SECURITY": "sasl_plaintext", "PTR_BROKER_CA": "x"}, "PTR_BROKER_CA: .* uses no TLS"),
        ({"PTR_BROKER_USER": ""}, "PTR_BROKER_USER: missing"),
        ({"PTR_BROKER_PASSWORD_FILE": ""}, "PTR_BROKER_PASSWORD_FILE: missing"),
        ({"PTR_BROKER_PASSWORD_FILE": "/nowhere/p"}, "PTR_BROKER_PASSWORD_FILE: cannot read /nowhere/p: No such file"),
        ({"PTR_BROKER_PASSWORD_FILE": "/dev/null"}, "PTR_BROKER_PASSWORD_FILE: /dev/null is empty"),
        (
            {"PTR_BROKER_CA": "/nowhere/ca"},
            "PTR_BROKER_CA: /nowhere/ca is no file of certificates in PEM: No such file",
        ),
        ({"PTR_BROKER_CA": "/dev/null"}, "PTR_BROKER_CA: /dev/null is no file of certificates"),
        ({"PTR_BROKER_CERT": "c"}, "PTR_BROKER_CERT and PTR_BROKER_KEY are given together"),
        (
            {"PTR_BROKER_CERT": "/nowhere/c", "PTR_BROKER_KEY": "/nowhere/k"},
            "PTR_BROKER_CERT, PTR_BROKER_KEY: .* No such",
        ),
        ({"PTR_BROKER_PASSWORD": "hunter2"}, "PTR_BROKER_PASSWORD: .* name the file in PTR_BROKER_PASSWORD_FILE"),
    ],
)
def test_a_wrong_way_in_names_its_variable(tmp_path: Path, more: dict[str, str], named: str) -> None:
    """At the start, before anything connects: nobody believes that a setting protects that is not heeded."""
    with pytest.raises(SettingsError, match=named) as caught:
        load(secured(tmp_path) | more)
    assert "s3cret" not in str(caught.value) and "hunter2" not in str(caught.value)
