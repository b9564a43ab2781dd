"""Workers as Faust's own command line and ``ptr worker`` start them."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from connectors.broker.local import LocalKafka
from pipeline.bench.load import post
from pipeline.rig import Child, Rig
from tests.integration.live import a_load, completed, exact, no_traceback, pipeline, settle, until

pytestmark = pytest.mark.kafka


def run(rig: Rig, name: str, *command: str, **environment: str) -> Child:
    """Start a command as one of the rig's children."""
    child = Child(name, [sys.executable, "-m", *command], rig._environment | environment, rig.folder)
    rig.children.append(child)
    child.start()
    return child


def test_faust_worker_processes_a_payment(kafka: LocalKafka, tmp_path: Path) -> None:
    """``faust -A pipeline.app --datadir D worker --without-web``: settings from PTR_*, a payment gets its outcome."""
    load = a_load(1)
    with pipeline(kafka.address, tmp_path, load) as rig:
        datadir = tmp_path / "faust"
        command = ["faust", "-A", "pipeline.app", "--datadir", str(datadir), "worker", "--without-web"]
        worker = run(rig, "faust", *command)
        rig.audit_sink()
        post(kafka.address, load)
        settle(rig, load)
        assert list(datadir.rglob("payer_profiles-*.db")), "the option --datadir was not heard"
        assert exact(rig, load) == []
        assert worker.process is not None and worker.process.returncode == 0, worker.log_tail()
        assert no_traceback(worker.log.read_text()), worker.log_tail(40)


def test_ptr_worker_runs_the_stages_that_it_is_given(kafka: LocalKafka, tmp_path: Path) -> None:
    """``ptr worker --stages screening,localization`` runs these, others run the rest, and a payment gets its outcome."""
    load = a_load(20)
    with pipeline(kafka.address, tmp_path, load) as rig:
        for name, stages in (
            ("front", "screening,localization"),
            ("fraud", "payee,payer"),
            ("end", "reviews,dispatch,plugin"),
        ):
            run(rig, name, "pipeline.cli", "worker", "--stages", stages, "--datadir", str(tmp_path / name))
        rig.audit_sink()
        post(kafka.address, load)
        until("all outcomes", lambda: completed(rig) >= load.payments)
        settle(rig, load)
        assert exact(rig, load) == []
        assert [child.process.returncode for child in rig.children if child.process] == [0, 0, 0, 0]
