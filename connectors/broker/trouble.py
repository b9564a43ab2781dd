"""What a Kafka client says about its connection, and what an operator can do about it."""

from __future__ import annotations

import socket
from typing import Any

from confluent_kafka import KafkaError

from pipeline.settings import BrokerAccess

_REFUSED = (KafkaError._AUTHENTICATION, KafkaError.SASL_AUTHENTICATION_FAILED)
_CHECK_USER = "check PTR_BROKER_USER, PTR_BROKER_PASSWORD_FILE and PTR_BROKER_SASL_MECHANISM"
_CHECK_TLS = (
    "check PTR_BROKER_CA, PTR_BROKER_CERT and PTR_BROKER_KEY, and that PTR_BROKER names a host of its certificate"
)
CONNECT_TIMEOUT_S = 1.0


class Trouble:
    """Keeps what a client reports through its ``error_cb``::

        trouble = Trouble()
        producer = Producer(client_config(broker, {"error_cb": trouble}))

    librdkafka goes on trying whatever happens, and in the end says only that no broker answers. What it said before is
    heard when the client is polled. Its texts hold no password.
    """

    def __init__(self) -> None:
        #: The last text, empty when there was none.
        self.last = ""
        #: Why we were not let in, and what to check; empty when that is not what is wrong.
        self.refusal = ""

    def __call__(self, error: Any) -> None:
        self.last = text = str(error.str())
        if error.code() in _REFUSED:
            self.refusal = f"it does not let us in ({_short(text)}): {_CHECK_USER}"
        elif error.code() == KafkaError._SSL:
            self.refusal = f"no TLS connection ({_short(text)}): {_CHECK_TLS}"

    def why(self) -> str:
        """The best that is known, empty when nothing is."""
        return self.refusal or self.last

    def unanswered(self, broker: BrokerAccess | str, timeout_s: float) -> str:
        """A sentence for when ``broker`` gave no answer within ``timeout_s``: why, as far as is known, and what to do."""
        if self.refusal:
            return f"Kafka at {broker}: {self.refusal}"
        advice = "start one (`ptr kafka up`) or name yours with --broker"
        if _listens(str(broker)):
            # A listener that wants TLS hangs up at the first plain word, and librdkafka does not tell.
            advice = "something listens there; check that it is Kafka and that PTR_BROKER_SECURITY is what it wants"
        return f"no Kafka broker answers at {broker} within {timeout_s:g} s: {advice}"


def _listens(addresses: str) -> bool:
    host, _, port = addresses.split(",")[0].strip().rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), CONNECT_TIMEOUT_S).close()
    except (OSError, ValueError):
        return False
    return True


def _short(text: str) -> str:
    """Without the address before, the client's advice and timing after."""
    words = text.split(": ", 1)[-1] if "://" in text.split(": ", 1)[0] else text
    return words.split(" (after ", 1)[0].split(": broker certificate could", 1)[0]
