"""Exceptions from sanctions matches, per tenant: published to a topic, read by every worker that screens."""
