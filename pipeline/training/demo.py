"""Trains the demo's model on the project's own generated traffic::

    python -m pipeline.training.demo connectors/demo/fraud_model.onnx

Its frauds are scenes of connectors/demo/scenes.py: somebody tries stolen cards, a terminal is compromised.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Final

from connectors.demo.generator import generate
from pipeline.stages.features import MODEL_FEATURES, PAYER_FEATURES, matrix
from pipeline.stages.profiles import (
    PayeeProfile,
    PayerProfile,
    add_payee_payment,
    add_payer_payment,
    payee_features,
    tag_of,
)
from pipeline.training.fit import Trained, train
from schemas.identity import payee_key

#: Streams of other seeds than any that the demo or a test uses.
SEEDS: Final = range(9_000, 9_008)
POSTS: Final = 4_000
START_MS: Final = 1_780_000_000_000
FRAUDS: Final = frozenset({"card_testing", "compromised_terminal"})
#: What is not an everyday payment and no fraud either says nothing here.
OTHERS: Final = frozenset({"everyday", "regular"})
#: There are no chargebacks in the demo: features of labels would all be nought.
FEATURES: Final = tuple(name for name in MODEL_FEATURES if "risk" not in name and "delayed" not in name)
ROUNDS: Final = 30
_NEW: Final = PAYER_FEATURES.index("payee_new")


def make() -> Trained:
    """The model; the same every time."""
    of_payer, of_payee, amounts, times, fraud = [], [], [], [], []
    for seed in SEEDS:
        payers: dict[tuple[str, str], PayerProfile] = {}
        payees: dict[bytes, PayeeProfile] = {}
        for post in generate(POSTS, seed=seed, start_ms=START_MS):
            request = post.request
            if request is None or post.kind != "first" or post.about not in FRAUDS | OTHERS:
                continue
            at_ms, key = (
                request.requested_at_ms,
                payee_key(request.tenant, request.creditor.id, request.terminal_id),
            )
            card = tag_of(request.instrument.token.encode())
            payer = payers.setdefault((request.tenant, request.debtor.id), PayerProfile())
            payee = payees.setdefault(key, PayeeProfile())
            facts = add_payer_payment(
                payer,
                at_ms,
                request.amount_minor,
                terminal=tag_of(key),
                card=card,
                country=request.locality.country,
                home=request.debtor.country,
            )
            add_payee_payment(payee, at_ms, request.amount_minor, card=card, new_payer=bool(facts[_NEW]))
            of_payer.append(facts)
            of_payee.append(payee_features(payee, at_ms))
            amounts.append(request.amount_minor)
            times.append(at_ms)
            fraud.append(post.about in FRAUDS)
    import numpy as np

    return train(
        matrix(of_payer, of_payee, amounts, times),
        np.array(fraud, dtype=np.bool_),
        features=FEATURES,
        window={"from": "generated", "until": "generated", "tenants": "demo"},
        rounds=ROUNDS,
    )


if __name__ == "__main__":
    Path(sys.argv[1]).write_bytes(make().content)
