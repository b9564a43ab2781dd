"""The composition root: the whole pipeline in flow order. ``faust -A pipeline.app worker`` and ``ptr worker`` run it.

A stage reads one topic, decides, and writes the next; each topic is keyed by what its reader needs. Stages that share a
table share a cycle (pipeline.engine.runner). Which stages this worker runs is a setting; the rest run in other groups.
"""

from __future__ import annotations

from functools import cache, partial

from agents import dispatch, localization, parties, payee, payer, plugin, reviews, screening
from agents.context import Context
from agents.web import WebServer
from connectors.broker.books import B, BookReader
from connectors.controls.book import ControlBook
from connectors.controls.topic import ControlReader
from connectors.erasures.book import ErasureBook
from connectors.erasures.topic import ErasureReader
from connectors.exceptions.book import ExceptionBook
from connectors.exceptions.reader import ExceptionReader
from connectors.lists.book import ListBook
from connectors.lists.load import age_limit_s, load_watchlists
from connectors.lists.reader import ListReader
from connectors.models.book import ModelBook
from connectors.models.scorer import Scorer
from connectors.models.topic import ModelReader
from connectors.pic.registry import make_pic
from connectors.registry import open_registry
from connectors.snoozes.book import SnoozeBook
from connectors.snoozes.topic import SnoozeReader
from connectors.tenants.book import TenantBook
from connectors.tenants.reader import TenantReader
from pipeline import topics
from pipeline.engine.app import PipelineApp, SideInput, end_process, make_app
from pipeline.engine.metrics import (
    ListMetrics,
    Metrics,
    ModelMetrics,
    PicMetrics,
    RescreeningMetrics,
    RuleMetrics,
    SnoozeMetrics,
)
from pipeline.engine.stage import Group, Table
from pipeline.engine.worker import prepare_process
from pipeline.settings import Settings, load
from pipeline.stages.watchlist import Watchlists
from schemas.codec import Codec
from tables import attempts, payments, profiles
from tables import parties as known_parties


def flow(context: Context) -> dict[str, list[Group]]:
    """Every stage by its name in ``PTR_STAGES``, from the request to its outcome."""
    rescreening = parties.Rescreening(context)
    return {
        # payments.requested.v1 -> payments.screened.v1 (or payments.ended.v1)
        "screening": [
            Group(
                name="screening",
                stages=(screening.make(context),),
                table=Table(name=payments.NAME, changelog=payments.CHANGELOG, row_type=payments.PaymentRow),
            )
        ],
        # payments.screened.v1 -> payments.localized.v1, keyed by payer
        "localization": [Group(name="localization", stages=(localization.make(context),))],
        # payments.localized.v1 -> payments.profiled.v1, keyed by payee; payments.credited.v1: what came in for payers
        "payer": [
            Group(
                name="payer",
                stages=(payer.make(context), payer.make_credits(context)),
                table=Table(
                    name=profiles.PAYERS,
                    changelog=profiles.PAYERS_CHANGELOG,
                    row_type=profiles.PAYER_ROW,
                    rows_kept_max=profiles.KEPT_MAX,
                ),
            )
        ],
        # payments.profiled.v1 -> payments.scored.v1, keyed by payment; payments.chargebacks.v1 labels
        "payee": [
            Group(
                name="payee",
                stages=(payee.make(context), payee.make_chargebacks(context)),
                table=Table(
                    name=profiles.PAYEES,
                    changelog=profiles.PAYEES_CHANGELOG,
                    row_type=profiles.PAYEE_ROW,
                    rows_kept_max=profiles.KEPT_MAX,
                ),
            )
        ],
        # payments.referred.v1, reviews.decided.v1 -> reviews.opened.v1, reviews.answered.v1; back to payments.screened.v1 or
        # payments.scored.v1, or to payments.ended.v1
        "reviews": [reviews.make(context)],
        # payments.scored.v1, operations.requested.v1 -> payments.queue.<pic>.v1; payments.ended.v1, payments.answered.v1,
        # payments.notified.v1 -> payments.completed.v1, payments.updated.v1, payments.parked.v1, payments.credited.v1;
        # operations.delayed.v1 -> operations.expired.v1: operations whose payment does not come
        "dispatch": [
            Group(
                name="dispatch",
                stages=dispatch.make(context),
                table=Table(name=attempts.NAME, changelog=attempts.CHANGELOG, row_type=attempts.ROW),
            ),
            dispatch.make_delay(),
        ],
        # payments.queue.<pic>.v1 -> payments.answered.v1; payments.retry.<pic>.<delay>.v1 -> payments.answered.v1, or the queue
        "plugin": plugin.groups(context),
        # parties.seen.v1 -> parties.flagged.v1, whenever a sanctions list changes; erasures.requested.v1 -> parties.erased.v1
        "parties": [
            Group(
                name="parties",
                stages=(parties.make(context, rescreening), parties.make_erasing(context)),
                table=Table(name=known_parties.NAME, changelog=known_parties.CHANGELOG, row_type=known_parties.ROW),
                background=rescreening,
            )
        ],
    }


def create(settings: Settings) -> PipelineApp:
    """The app for one worker. Reads the files of ``PTR_LISTS``; contacts nothing before it starts."""
    codec = Codec(open_registry(settings.schema_registry_url))
    metrics = Metrics()
    book = TenantBook()
    side_inputs: list[SideInput] = []

    def follow(reader: type[BookReader[B]], topic: topics.Topic, into: B, ending: str) -> None:
        side_inputs.append(reader(settings.access, topic.name, codec, into, partial(_end, ending)))

    follow(TenantReader, topics.TENANTS, book, "tenants' configurations are no longer read")
    # Files named in PTR_LISTS win, for development; otherwise the topic's lists, and while it has none the sample.
    screens = not {"screening", "parties"}.isdisjoint(settings.stages)
    watchlists = load_watchlists(settings.lists) if screens else Watchlists(())
    list_metrics = ListMetrics(metrics, age_limit_s)
    lists = ListBook(watchlists, list_metrics)
    if screens:
        name = "files" if settings.lists else "sample"
        list_metrics.without_topic(name, watchlists.version, watchlists.entries_count)
        if not settings.lists:
            follow(ListReader, topics.LISTS, lists, "sanctions lists are no longer read")
    model_metrics = ModelMetrics(metrics)
    models = ModelBook(model_metrics)
    snoozes = SnoozeBook(SnoozeMetrics(metrics))
    if "payee" in settings.stages:
        follow(ModelReader, topics.MODELS, models, "fraud models are no longer read")
        follow(SnoozeReader, topics.SNOOZES, snoozes, "snoozed fraud rules are no longer read")
    exceptions = ExceptionBook()
    if screens:
        follow(ExceptionReader, topics.EXCEPTIONS, exceptions, "exceptions are no longer read")
    erasures = ErasureBook()
    if "screening" in settings.stages:
        follow(ErasureReader, topics.ERASURES, erasures, "erasures are no longer read")
    controls = ControlBook()
    if "plugin" in settings.stages:
        follow(ControlReader, topics.CONTROLS, controls, "which PICs are paused is no longer read")
    apps: list[PipelineApp] = []
    context = Context(
        codec=codec,
        tenants=book,
        lists=lists,
        rescreening=RescreeningMetrics(metrics),
        snoozes=snoozes,
        models=models,
        scorer=Scorer(settings.fraud_model_timeout_s, model_metrics),
        rules_watch=RuleMetrics(metrics),
        exceptions=exceptions,
        erasures=erasures,
        controls=controls,
        pics={
            name: make_pic(
                name,
                timeout_s=settings.pic_timeout_s,
                simulator_ledger=settings.simulator_ledger,
                allowed=lambda: apps[0].lease.fresh(),
                watch=PicMetrics(metrics, name, partial(controls.paused, name)),
            )
            for name in settings.pics
        },
    )
    stages = flow(context)
    app = make_app(
        settings,
        [group for name in settings.stages for group in stages[name]],
        codec=codec,
        metrics=metrics,
        side_inputs=side_inputs,
    )
    apps.append(app)
    app.services.append(WebServer(settings, book))
    return app


def _end(ending: str, error: BaseException) -> None:
    end_process(f"{ending}: {type(error).__name__}: {error}")


@cache
def _app() -> PipelineApp:
    prepare_process()
    return create(load())


def __getattr__(name: str) -> PipelineApp:
    # ``pipeline.app.app``, made when it is first asked for: importing this module reads no settings and no lists.
    if name == "app":
        return _app()
    raise AttributeError(name)
