"""Confluent framing with a schema registry, over HTTP: tests.integration.schema_registry."""

from __future__ import annotations

import base64
import json

import pytest

from connectors.registry import ConfluentRegistry, RegistryError, open_registry
from schemas.codec import Codec, UndecodableError, schema_of
from schemas.identity import payment_key
from schemas.reasons import Error
from schemas.records import RECORDS, PaymentRequested, PaymentScreened
from tests.builders import a_request
from tests.contract.samples import SAMPLES
from tests.integration.kafka import unique
from tests.integration.schema_registry import Server, registry
from tests.stream.shell import Shell

__all__ = ["registry"]


def test_what_is_written_has_the_registrys_id(registry: Server) -> None:
    """00, the id as four bytes, the body; another process that knows only the registry reads it."""
    sample = SAMPLES[0]
    value = Codec(ConfluentRegistry(registry.url)).encode(sample)
    assert value[:5] == b"\x00" + (100_000).to_bytes(4, "big")
    assert value[5:] == Codec().encode(sample)[10:]
    assert Codec(ConfluentRegistry(registry.url)).decode(value, PaymentRequested) == sample
    assert list(registry.subjects) == ["payments.v1.PaymentRequested"]


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda sample: type(sample).__name__)
def test_both_framings_are_read(registry: Server, sample: object) -> None:
    """Of every record, also by a codec that has a registry."""
    codec = Codec(open_registry(registry.url))
    assert codec.decode(codec.encode(sample), type(sample)) == sample  # type: ignore[type-var]
    assert codec.decode(Codec().encode(sample), type(sample)) == sample  # type: ignore[type-var]


def test_each_schema_is_registered_and_asked_for_once(registry: Server) -> None:
    """Not once a record."""
    codec = Codec(ConfluentRegistry(registry.url))
    for _ in range(3):
        for sample in SAMPLES:
            codec.decode(codec.encode(sample), type(sample))
    methods = [method for method, _, _ in registry.requests]
    assert (methods.count("POST"), methods.count("GET")) == (len(RECORDS), len(RECORDS))


def test_an_unknown_id_is_an_unknown_schema(registry: Server) -> None:
    """The record's fault: a dead letter."""
    with pytest.raises(UndecodableError) as caught:
        Codec(ConfluentRegistry(registry.url)).decode(b"\x00\x00\x00\x00\x07body", PaymentRequested)
    assert caught.value.error == Error.UNKNOWN_SCHEMA


def test_a_registry_that_is_away_is_not_the_records_fault(registry: Server) -> None:
    """ConnectionError, whatever is wrong with the registry: an error of its own, or nobody there."""
    value = Codec(ConfluentRegistry(registry.url)).encode(SAMPLES[0])
    for status in (500, 401, 503):
        registry.failing = status
        with pytest.raises(ConnectionError, match=str(status)):
            Codec(ConfluentRegistry(registry.url)).decode(value, PaymentRequested)
    with pytest.raises(RegistryError, match="does not answer"):
        Codec(ConfluentRegistry("http://127.0.0.1:1", timeout_s=1)).decode(value, PaymentRequested)


def test_a_stage_ends_and_gives_nothing_up_while_the_registry_is_away(registry: Server) -> None:
    """In the shell: the process ends, no dead letter is written, nothing acknowledged; with the registry back it goes on."""
    codec = Codec(ConfluentRegistry(registry.url))
    shell = Shell("screening", codec=codec)
    request = a_request(payment_id=unique("p"))
    shell.give("payments.requested.v1", codec.encode(request), payment_key("t1", request.payment_id))
    registry.failing = 503
    with pytest.raises(ConnectionError):
        shell.run()
    assert shell.world.broker.all("payments.dead-letter.v1") == []
    assert not any(shell.world.committed.values())
    registry.failing = 0
    shell.again()
    ((_, event),) = shell.out("payments.screened.v1", PaymentScreened, codec)
    assert event.payment_id == request.payment_id


def test_user_and_password_go_into_a_header_and_into_no_message(registry: Server) -> None:
    """RFC 7617; an error names the address without them."""
    with_password = registry.url.replace("http://", "http://ada:s3cret@")
    ConfluentRegistry(with_password).id_of("s", json.dumps(schema_of(PaymentRequested)))
    assert registry.requests[-1][2] == "Basic " + base64.b64encode(b"ada:s3cret").decode()
    registry.failing = 401
    with pytest.raises(RegistryError) as caught:
        ConfluentRegistry(with_password).schema_of(1)
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize("url", ["registry:8081", "ftp://registry", "http://"])
def test_an_address_that_is_none_is_refused_at_once(url: str) -> None:
    """With what it takes."""
    with pytest.raises(ValueError, match="PTR_SCHEMA_REGISTRY_URL takes http"):
        open_registry(url)


def test_no_address_is_no_registry() -> None:
    """Single-object encoding."""
    assert open_registry("") is None
