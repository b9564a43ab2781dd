"""How well fraud is found: the Fraud Detection Handbook's transactions through the real pipeline, on a real Kafka.

Transactions are posted day by day, in order of time. A fraud of day ``d`` is posted as a chargeback between day ``d + 6``
and day ``d + 7``, and the stage has it before the first payment of day ``d + 7`` is posted; features look at labels only
through windows that end seven days earlier, so none is looked at too soon. A model is trained on what
``payments.scored.v1`` and ``payments.chargebacks.v1`` hold when the test begins, published and promoted; the test's scores
are those that the pipeline then gives.

The topics have one partition: a replay presses a day into seconds, and what two partitions are apart by a second would be
apart by hours. Dispatch and plugins do not run: nothing of them is measured.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Container, Iterable, Iterator
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient

from connectors.broker.local import LocalKafka
from connectors.files import source
from connectors.files.mapping import Mapping
from connectors.files.presets import PRESETS
from connectors.models.book import CHAMPION, EFFECTIVE_DELAY_MS
from connectors.models.onnx_model import OnnxModel
from connectors.models.scorer import Scorer
from connectors.models.topic import publish
from pipeline import topics
from pipeline.bench.load import poster
from pipeline.rig import Rig, RigError, Worker, stage_metrics
from pipeline.settings import client_config
from pipeline.stages.features import HANDBOOK_FEATURES, MODEL_FEATURES, PAYER_FEATURES, matrix
from pipeline.stages.profiles import (
    PayeeProfile,
    PayerProfile,
    add_chargeback,
    add_payee_payment,
    add_payer_payment,
    payee_features,
    tag_of,
)
from pipeline.training.figures import average_precision, card_precision, handbook_test_set, roc_auc
from pipeline.training.fit import train
from pipeline.training.recorded import Recorded, Table, from_topics, number_of
from schemas.codec import Codec
from schemas.identity import payee_key, payment_key
from schemas.records import ChargebackReceived, PaymentRequested
from schemas.tenant_rules import FraudRules, TenantRules

TRANSACTIONS: Final = "fdh/transactions.parquet"
FEATURES: Final = "fdh/features_2018-08-08_to_14.parquet"
TENANT: Final = "fdh"
DAY_MS: Final = 24 * 60 * 60 * 1000
#: 2018-04-01, the first of the handbook's days, as a day since 1970.
FIRST_DAY: Final = 17_622
#: Training, then the days in which labels arrive, then the test; each a week (the handbook's choice).
TRAIN_DAY: Final = FIRST_DAY + 115  # 2018-07-25
WEEK: Final = 7
TEST_DAY: Final = TRAIN_DAY + 2 * WEEK
#: The longest window ends 7 days ago and is 30 days long.
HISTORY_DAYS: Final = 37
TOKEN: Final = "bench"  # noqa: S105
#: How long one day may take.
DAY_TIMEOUT_S: Final = 300.0
#: Rows in a batch when features and model are timed.
BATCH: Final = 200
TIMED_PAYMENTS: Final = 40_000
#: Chosen, as the settings were, on weeks before the training week: in these data everybody pays in one country with one
#: card, and what says nothing costs precision. None looks at labels that are not a week old.
READ: Final = (*HANDBOOK_FEATURES, "amount_to_mean_30d", "amount_z", "since_last_s", "payee_new")
_PAYEE_NEW: Final = PAYER_FEATURES.index("payee_new")

Say = Callable[[str], None]


class DataError(ValueError):
    """The handbook's file is missing or not what it was; the text names it."""


def measure(kafka: LocalKafka, folder: Path, data: Path, say: Say) -> dict[str, Any]:
    """Replay, train, test; all figures."""
    for each in (TRANSACTIONS, FEATURES):
        if not (data / each).is_file():
            raise DataError(f"{data / each} is not there; --data names the folder of the reference data")
    file = data / TRANSACTIONS
    labels = _labels(file)
    tenant = TenantRules(
        tenant=TENANT,
        pic="simulator",
        currencies=["EUR"],
        # What is measured is the score: nobody is stopped.
        fraud=FraudRules(refer_at=1.0, decline_at=1.0),
    )
    codec = Codec()
    with Rig(kafka.address, folder, partitions=1, PTR_WEB_TOKEN=TOKEN) as rig:
        rig.prepare([tenant])
        front, fraud = rig.worker("front", ("screening", "localization")), rig.worker("fraud", ("payer", "payee"))
        rig.wait_ready()
        replay = _Replay(kafka, rig, fraud, codec, labels)
        started_s = time.monotonic()
        for day, requests in _days(file, TRAIN_DAY - HISTORY_DAYS, TEST_DAY + WEEK):
            if day == TEST_DAY:
                figures = _train(kafka, codec, say)
                # What is received from now on is scored by the model.
                time.sleep(EFFECTIVE_DELAY_MS / 1000 + 1.0)
            replay.day(day, requests)
            say(f"{_date(day)}: {replay.posted:,} payments, {replay.charged_back:,} chargebacks")
        took_s = time.monotonic() - started_s
        cpu = {
            stage: round(metric["cpu_s"] / metric["records"] * 1e6, 1)
            for worker in (front, fraud)
            for stage, metric in stage_metrics(worker, TOKEN).items()
            if metric.get("records")
        }
        for child in (front, fraud):
            child.measure()
        memory = {child.name: child.peak_mb for child in (front, fraud)}
        say("reading payments.scored.v1")
        recorded = Recorded(TRAIN_DAY * DAY_MS, (TEST_DAY + WEEK) * DAY_MS)
        from_topics(recorded, kafka.address, codec, all_paid=True)
    table = recorded.table()
    test = _test(table, labels, figures["model"])
    return {
        "payments": replay.posted,
        "chargebacks": replay.charged_back,
        "replay_s": round(took_s),
        "train": figures,
        "test": test,
        "hourly_buckets": _buckets(table, labels, data / FEATURES),
        "features_and_model_us": _microseconds(file, figures.pop("content"), labels),
        "stage_cpu_us_per_ptr": cpu,
        "peak_memory_mb": memory,
    }


class _Replay:
    """Posts days, and waits for the pipeline after each."""

    def __init__(self, kafka: LocalKafka, rig: Rig, fraud: Worker, codec: Codec, labels: dict[str, int]) -> None:
        self._rig, self._fraud, self._labels = rig, fraud, labels
        self._producer: Producer = poster(kafka.address)
        self._admin = AdminClient(client_config(kafka.address))
        self._address = kafka.address
        self._encode, self._encode_chargeback = codec.encoder(PaymentRequested), codec.encoder(ChargebackReceived)
        self._frauds: dict[int, list[PaymentRequested]] = {}
        self.posted = self.charged_back = 0

    def day(self, day: int, requests: Iterator[PaymentRequested]) -> None:
        """First the chargebacks of a week ago, then, when the stage has them, the payments."""
        for paid in self._frauds.pop(day - WEEK, []):
            chargeback = ChargebackReceived(
                tenant=paid.tenant,
                payment_id=paid.payment_id,
                creditor_id=paid.creditor.id,
                terminal_id=paid.terminal_id,
                amount_minor=paid.amount_minor,
                currency=paid.currency,
                paid_at_ms=paid.requested_at_ms,
                charged_back_at_ms=day * DAY_MS,
            )
            key = payee_key(paid.tenant, paid.creditor.id, paid.terminal_id)
            self._producer.produce(topics.CHARGEBACKS.name, self._encode_chargeback(chargeback), key)
            self.charged_back += 1
        self._producer.flush(60)
        self._wait("chargebacks", lambda: self._handled("chargebacks") >= self.charged_back)
        for request in requests:
            key = payment_key(request.tenant, request.payment_id)
            self._producer.produce(topics.REQUESTED.name, self._encode(request), key)
            self.posted += 1
            if request.payment_id in self._labels:
                self._frauds.setdefault(day, []).append(request)
            if self.posted % 1000 == 0:
                self._producer.poll(0)
        self._producer.flush(60)
        self._wait("payments", lambda: self._rig.count(topics.SCORED.name) >= self.posted)

    def _handled(self, stage: str) -> float:
        """Records that the worker's stage has decided; its rows know them."""
        return stage_metrics(self._fraud, TOKEN).get(stage, {}).get("records", 0.0)

    def _wait(self, what: str, done: Callable[[], bool]) -> None:
        deadline_s = time.monotonic() + DAY_TIMEOUT_S
        while not done():
            self._rig.check()
            if time.monotonic() > deadline_s:
                raise RigError(f"{what}: not done after {DAY_TIMEOUT_S:g} s\n{self._fraud.log_tail()}")
            time.sleep(0.1)


def _train(kafka: LocalKafka, codec: Codec, say: Say) -> dict[str, Any]:
    """Train on what is recorded until now, publish and promote; what the training gave."""
    say("training on what the topics hold")
    recorded = Recorded(TRAIN_DAY * DAY_MS, (TRAIN_DAY + WEEK) * DAY_MS)
    from_topics(recorded, kafka.address, codec, all_paid=True)
    table = recorded.table()
    began_s = time.monotonic()
    trained = train(
        table.matrix,
        table.fraud,
        features=READ,
        window={"from": _date(TRAIN_DAY), "until": _date(TRAIN_DAY + WEEK), "tenants": [TENANT]},
    )
    took_s = time.monotonic() - began_s
    version = publish(kafka.address, codec, trained.content, promote_to=CHAMPION, by="ptr bench fraud")
    return {
        "payments": len(table.fraud),
        "frauds": int(table.fraud.sum()),
        "seconds": round(took_s, 1),
        "model": version,
        "model_bytes": len(trained.content),
        "content": trained.content,
    }


def _test(table: Table, labels: dict[str, int], model: str) -> dict[str, Any]:
    """The handbook's figures over the scores that the pipeline gave."""
    truth, day, _, test = _protocol(table, labels)
    unscored = sum(1 for at in np.nonzero(test)[0] if table.models[at] != model)
    if unscored:
        raise RigError(f"{unscored} payments of the test were not scored by model {model}")
    fraud, scores = truth[test], table.model_scores[test]
    return {
        "payments": int(test.sum()),
        "frauds": int(fraud.sum()),
        "auc": round(roc_auc(fraud, scores), 4),
        "average_precision": round(average_precision(fraud, scores), 4),
        "card_precision_100": round(card_precision(day[test], table.cards[test], fraud, scores), 4),
    }


def _buckets(table: Table, labels: dict[str, int], file: Path) -> dict[str, Any]:
    """What hourly buckets cost: the test's figures of one model, of the handbook's features, with ours and with theirs."""
    truth, day, train_set, test_set = _protocol(table, labels)
    model = train(table.matrix[train_set], truth[train_set], features=HANDBOOK_FEATURES, window={}).model
    theirs = pq.read_table(file)
    exact = np.zeros((theirs.num_rows, len(MODEL_FEATURES)), dtype=np.float32)
    for at, name in enumerate(HANDBOOK_FEATURES):
        column, factor = _THEIRS[name]
        exact[:, at] = theirs[column].to_numpy() * factor
    ids = np.array([number_of(TENANT, str(number)) for number in theirs["TRANSACTION_ID"].to_pylist()], dtype=np.int64)
    order = np.argsort(ids)
    at = order[np.searchsorted(ids, table.ids[test_set], sorter=order)]
    if not np.array_equal(ids[at], table.ids[test_set]):
        raise DataError(f"{file} lacks transactions of the test")
    fraud, found = truth[test_set], {}
    for name, rows in (("ours", table.matrix[test_set]), ("exact", exact[at])):
        scores = model.score(model.rows(rows))
        found[name] = {
            "auc": round(roc_auc(fraud, scores), 4),
            "average_precision": round(average_precision(fraud, scores), 4),
            "card_precision_100": round(card_precision(day[test_set], table.cards[test_set], fraud, scores), 4),
        }
    return found


def _protocol(table: Table, labels: dict[str, int]) -> tuple[Any, Any, Any, Any]:
    """True labels, days, and which payments are for training and for the test."""
    truth = np.isin(table.ids, np.array([number_of(TENANT, payment_id) for payment_id in labels], dtype=np.int64))
    day = table.times // DAY_MS
    return truth, day, *handbook_test_set(day, table.cards, truth, train_day=TRAIN_DAY)


def _their_columns() -> dict[str, tuple[str, float]]:
    """The handbook's column of each of its features, and what makes our unit of theirs."""
    found = {"amount": ("TX_AMOUNT", 100.0), "weekend": ("TX_DURING_WEEKEND", 1.0), "night": ("TX_DURING_NIGHT", 1.0)}
    for days in (1, 7, 30):
        found[f"payer_count_{days}d"] = f"CUSTOMER_ID_NB_TX_{days}DAY_WINDOW", 1.0
        found[f"payer_mean_{days}d"] = f"CUSTOMER_ID_AVG_AMOUNT_{days}DAY_WINDOW", 100.0
        found[f"payee_count_{days}d_delayed"] = f"TERMINAL_ID_NB_TX_{days}DAY_WINDOW", 1.0
        found[f"payee_risk_{days}d_delayed"] = f"TERMINAL_ID_RISK_{days}DAY_WINDOW", 1.0
    return found


_THEIRS: Final = _their_columns()


class Counted:
    """Rows of payers and payees as the stages keep them, and what the stages do with a payment until it has a score."""

    def __init__(self) -> None:
        self.payers: dict[str, PayerProfile] = {}
        self.payees: dict[str, PayeeProfile] = {}

    def facts(self, event: PaymentRequested) -> tuple[list[int], list[int]]:
        """Count a payment in both rows; the facts of its payer and of its payee."""
        payer, payee = self._rows(event)
        facts = add_payer_payment(
            payer,
            event.requested_at_ms,
            event.amount_minor,
            terminal=tag_of(payee_key(event.tenant, event.creditor.id, event.terminal_id)),
            card=tag_of(event.instrument.token.encode()),
            country=event.locality.country,
            home=event.debtor.country,
        )
        add_payee_payment(
            payee,
            event.requested_at_ms,
            event.amount_minor,
            card=tag_of(event.instrument.token.encode()),
            new_payer=bool(facts[_PAYEE_NEW]),
        )
        return facts, payee_features(payee, event.requested_at_ms)

    def live(self, days: Iterable[tuple[int, Iterable[PaymentRequested]]], labels: Container[str]) -> None:
        """Count all payments of ``days``, and a week after each fraud its chargeback, as the replay does."""
        frauds: dict[int, list[PaymentRequested]] = {}
        for day, requests in days:
            for paid in frauds.pop(day - WEEK, []):
                add_chargeback(self._rows(paid)[1], paid.payment_id, paid.requested_at_ms)
            for event in requests:
                self.facts(event)
                if event.payment_id in labels:
                    frauds.setdefault(day, []).append(event)

    def _rows(self, event: PaymentRequested) -> tuple[PayerProfile, PayeeProfile]:
        payer, payee = self.payers.get(event.debtor.id), self.payees.get(event.terminal_id)
        if payer is None:
            payer = self.payers[event.debtor.id] = PayerProfile()
        if payee is None:
            payee = self.payees[event.terminal_id] = PayeeProfile()
        return payer, payee


def _microseconds(file: Path, content: bytes, labels: Container[str]) -> dict[str, float]:
    """CPU of features and model for one payment, in batches: rows of payer and payee, matrix, scores in the model's thread.

    The rows are those of a stage that has run for as long as the longest window: what is counted in them is what costs.
    """
    model, scorer, counted = OnnxModel(content), Scorer(timeout_s=DAY_TIMEOUT_S), Counted()
    counted.live(_days(file, TRAIN_DAY - HISTORY_DAYS, TRAIN_DAY), labels)
    events: list[PaymentRequested] = []
    for _, requests in _days(file, TRAIN_DAY, TRAIN_DAY + WEEK):
        events += requests
        if len(events) >= TIMED_PAYMENTS:
            break

    async def score_all() -> None:
        for at in range(0, len(events), BATCH):
            batch = events[at : at + BATCH]
            of_payer, of_payee = zip(*map(counted.facts, batch), strict=True)
            rows = matrix(
                of_payer,
                of_payee,
                [event.amount_minor for event in batch],
                [event.requested_at_ms for event in batch],
            )
            scores = await scorer.score(model, model.rows(rows))
            if isinstance(scores, str):
                raise RigError(f"the model gave no scores: {scores}")

    began_s = time.process_time()
    asyncio.run(score_all())
    took_s = time.process_time() - began_s
    return {"per_payment": round(took_s / len(events) * 1e6, 1), "batch": BATCH}


def _labels(file: Path) -> dict[str, int]:
    """Day of each fraud by payment id."""
    table = pq.read_table(
        file, columns=["TRANSACTION_ID", "TX_TIME_DAYS", "TX_FRAUD"], filters=pc.field("TX_FRAUD") == 1
    )
    ids, days = table["TRANSACTION_ID"].to_pylist(), table["TX_TIME_DAYS"].to_pylist()
    return {str(number): FIRST_DAY + day for number, day in zip(ids, days, strict=True)}


def _days(file: Path, first: int, until: int) -> Iterator[tuple[int, Iterator[PaymentRequested]]]:
    """Payments of each day in [first, until), in order of time."""
    times = pq.read_table(file, columns=["TX_TIME_DAYS"])["TX_TIME_DAYS"].to_numpy() + FIRST_DAY
    if bool(np.any(np.diff(times) < 0)):
        raise DataError(f"{file} is not in order of time")
    begin, end = (int(np.searchsorted(times, day)) for day in (first, until))
    if end == begin:
        raise DataError(f"{file} has no transaction from {_date(first)} to {_date(until)}")
    mapping = Mapping.parse(PRESETS["fdh"])
    day, waiting = first, list[PaymentRequested]()
    for items in source.read(file, "parquet", mapping, offset=begin, limit=end - begin):
        for item in items.items:
            if not isinstance(item, PaymentRequested):
                raise DataError(f"{file}: row {item.row} cannot be read: {item.why}")
            while item.requested_at_ms // DAY_MS > day:
                yield day, iter(waiting)
                day, waiting = day + 1, []
            # A payment of nothing is refused, and a few transactions are of nothing: they count as the smallest amount.
            waiting.append(item if item.amount_minor > 0 else msgspec.structs.replace(item, amount_minor=1))
    yield day, iter(waiting)


def _date(day: int) -> str:
    return time.strftime("%Y-%m-%d", time.gmtime(day * DAY_MS / 1000))
