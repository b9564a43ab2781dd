"""A Confluent-compatible schema registry, for the codec. Needs the ``registry`` extra."""

from __future__ import annotations

from schemas.codec import Registry


class RegistryError(ValueError):
    """The schema registry cannot be used; says what to do."""


class ConfluentRegistry:
    """Registers and looks up schemas (:class:`schemas.codec.Registry`); each answer is asked for once."""

    def __init__(self, url: str, timeout_s: float = 5.0) -> None:
        try:
            from confluent_kafka.schema_registry import SchemaRegistryClient
        except ImportError as error:
            raise RegistryError(
                "PTR_SCHEMA_REGISTRY_URL is set and the client is not installed: pip install 'payment-pipeline[registry]'"
            ) from error
        self._client = SchemaRegistryClient({"url": url, "timeout": timeout_s})

    def id_of(self, subject: str, schema: str) -> int:
        """Register ``schema`` under ``subject``, or find it there."""
        from confluent_kafka.schema_registry import Schema

        return int(self._client.register_schema(subject, Schema(schema, "AVRO")))

    def schema_of(self, schema_id: int) -> str:
        """The schema with this id; LookupError when the registry has none."""
        from confluent_kafka.schema_registry.error import SchemaRegistryError

        try:
            return str(self._client.get_schema(schema_id).schema_str)
        except SchemaRegistryError as error:
            if error.http_status_code == 404:
                raise LookupError(schema_id) from None
            raise


def open_registry(url: str) -> Registry | None:
    """The registry at ``url``; None when there is none."""
    return ConfluentRegistry(url) if url else None
