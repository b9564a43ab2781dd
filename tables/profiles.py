"""Tables ``payer_profiles`` and ``payee_profiles``: hourly buckets (pipeline.stages.profiles says how they count)."""

from __future__ import annotations

from pipeline import topics
from pipeline.stages.profiles import PayeeProfile, PayerProfile

PAYERS = "payer_profiles"
PAYEES = "payee_profiles"
PAYERS_CHANGELOG = topics.TABLE_PAYER_PROFILES.name
PAYEES_CHANGELOG = topics.TABLE_PAYEE_PROFILES.name
#: Rows of one partition that are kept decoded: the same payers and payees come again and again.
KEPT_MAX = 10_000
PAYER_ROW = PayerProfile
PAYEE_ROW = PayeeProfile
