"""``ptr bench``: which parts run, what is told meanwhile, and that nothing measured is lost."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable, Generator, Sequence
from typing import Any

import pytest
from click.testing import CliRunner, Result

from pipeline.commands.bench import bench
from pipeline.rig import RigError

Say = Callable[[str], None]


class Given:
    """Measurements with figures of their own, in place of the minutes that real ones take."""

    def __init__(self, **instead: Callable[[], None]) -> None:
        #: What happens when a part is measured, by its name.
        self.instead = instead
        self.measured: list[str] = []
        #: What was measured when the latency part let go of its broker.
        self.ended_latency_after: list[str] = []
        self._rates = iter((9000, 11000, 10000, 8000))

    def _note(self, part: str) -> None:
        self.instead.get(part, lambda: None)()
        self.measured.append(part)

    def machine(self, say: Say) -> dict[str, Any]:
        self._note("machine")
        return {"python_step_ns": 40.0, "publish_ms": 1.5, "broker_cpu_ms_per_publish": 1.2}

    def throughput(self, payments: int, say: Say) -> dict[str, Any]:
        say(f"posting {payments} PTRs")
        self._note("throughput")
        return {"completed_ptr_per_s": next(self._rates), "peak_memory_mb": {"front": 300}}

    def audit(self, payments: int, database: str, say: Say) -> dict[str, Any]:
        self._note("audit")
        return {"completed_ptr_per_s": 7000, "audited_ptr_per_s": 5000}

    def control(self, payments: int, say: Say) -> int | None:
        self._note("control")
        return 450

    def latencies(self, rates: Sequence[float], say: Say) -> Generator[dict[str, Any]]:
        try:
            for rate in rates:
                self._note(f"latency {rate:g}")
                yield {"p50_ms": 20, "p99_ms": 90, "max_ms": 120, "counted": 2000}
        finally:
            self.ended_latency_after = list(self.measured)

    def idle(self, say: Say) -> dict[str, Any]:
        self._note("idle")
        return {"front": 1.5, "fraud": 1.2}

    def engine(self, payments: int, say: Say) -> dict[str, Any]:
        self._note("engine")
        return {"engine_ptr_per_s": next(self._rates), "peak_memory_mb": {"toy": 200}}


def run(given: Given, *arguments: str) -> Result:
    return CliRunner().invoke(bench, list(arguments), obj=given)


def test_all_parts_run_in_order_and_end_in_one_document_with_units() -> None:
    """Figures from the parts, the ratio of 9000 to 450 worked out, nothing missing, nothing else on standard output."""
    given = Given()
    result = run(given, "--json")
    assert result.exit_code == 0, result.output
    latencies = ["latency 200", "latency 1000", "latency 3000"]
    assert given.measured == ["machine", "throughput", "audit", "control", *latencies, "idle"]
    figures = json.loads(result.stdout)
    assert figures.pop("elapsed_s") < 60
    at = {"p50_ms": 20, "p99_ms": 90, "max_ms": 120, "counted": 2000}
    assert figures == {
        "payments": 200_000,
        "partitions": 4,
        "machine": {"python_step_ns": 40.0, "publish_ms": 1.5, "broker_cpu_ms_per_publish": 1.2},
        "completed_ptr_per_s": 9000,
        "audited_ptr_per_s": 5000,
        "plain_faust_ptr_per_s": 450,
        "ratio_to_plain_faust": 20.0,
        "without_sink": {"completed_ptr_per_s": 9000, "peak_memory_mb": {"front": 300}},
        "with_sink": {"completed_ptr_per_s": 7000, "audited_ptr_per_s": 5000},
        "latency": {"at_200_ptr_per_s": at, "at_1000_ptr_per_s": at, "at_3000_ptr_per_s": at},
        "idle_percent_of_core": {"front": 1.5, "fraud": 1.2},
        "missing": [],
    }


def test_each_parts_figures_are_told_with_its_place_and_what_comes_next() -> None:
    """On standard error, with the time that has passed."""
    lines = run(Given(), "--json", "--rates", "200").stderr.splitlines()
    assert lines[0] == "[0:00] part 1 of 6: machine"
    assert "1.5 ms to publish a record" in lines[1]
    assert "[0:00] posting 200000 PTRs" in lines
    assert "[0:00] part 2 of 6, throughput: 9,000 PTR/s to their outcomes; next: audit" in lines
    assert "[0:00] part 5 of 6, latency at 200 PTR/s: p50 20 ms, p99 90 ms; next: idle" in lines
    assert lines[-1].endswith("that was the last part")


def test_a_parts_figures_are_told_before_the_next_one_begins(capsys: pytest.CaptureFixture[str]) -> None:
    """Seen from within the second part."""
    seen: list[str] = []
    bench.main(
        ["--only", "throughput,audit", "--json"],
        obj=Given(audit=lambda: seen.append(capsys.readouterr().err)),
        standalone_mode=False,
    )
    assert "9,000 PTR/s" in seen[0]


@pytest.mark.parametrize(
    ("only", "measured"),
    [
        ("idle", ["idle"]),
        ("latency", ["latency 200", "latency 1000", "latency 3000"]),
        ("idle, throughput", ["throughput", "idle"]),
        ("control", ["control"]),
    ],
)
def test_only_named_parts_run(only: str, measured: list[str]) -> None:
    """In the usual order; what was not asked for is not missing."""
    given = Given()
    result = run(given, "--only", only, "--json")
    assert given.measured == measured
    assert json.loads(result.stdout)["missing"] == []


def test_a_ratio_needs_both() -> None:
    """The control alone has nothing to be compared with."""
    assert "ratio_to_plain_faust" not in json.loads(run(Given(), "--only", "control", "--json").stdout)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--only", "speed"], "speed: choose from machine, throughput, audit, control, latency, idle"),
        (["--only", ""], "choose from"),
        (["--rates", "fast"], "numbers separated by commas"),
        (["--rates", "0"], "above 0"),
        (["--rates", "nan"], "above 0"),
        (["--rates", "200,200"], "different rates"),
        (["--payments", "10"], "1000"),
        (["--only", "control", "--no-control"], "nothing to measure"),
    ],
)
def test_wrong_use_is_a_sentence(arguments: list[str], says: str) -> None:
    """Code 2, and nothing is measured."""
    given = Given()
    result = run(given, *arguments)
    assert (result.exit_code, given.measured) == (2, [])
    assert says in " ".join(result.stderr.replace("│", " ").split())


def interrupt() -> None:
    os.kill(os.getpid(), signal.SIGINT)


@pytest.mark.parametrize("as_json", [True, False])
def test_ctrl_c_keeps_what_was_measured(as_json: bool) -> None:
    """In the second rate: code 130, the figures of the parts before, and the names of the others."""
    given = Given(**{"latency 1000": interrupt})
    result = run(given, *(["--json"] if as_json else []))
    assert result.exit_code == 130
    assert given.measured[-1] == "latency 200"
    missing = ["latency at 1000 PTR/s", "latency at 3000 PTR/s", "idle"]
    assert f"not measured: {', '.join(missing)}" in result.stderr
    assert "Traceback" not in result.output
    if as_json:
        figures = json.loads(result.stdout)
        assert figures["missing"] == missing
        assert list(figures["latency"]) == ["at_200_ptr_per_s"]
        assert figures["completed_ptr_per_s"] == 9000
    else:
        assert "completed_ptr_per_s" in result.stdout and "9,000" in result.stdout


def test_a_second_ctrl_c_does_not_disturb_the_end_of_the_part() -> None:
    """What a part ends its processes with runs whole, and Ctrl-C works again afterwards."""
    ended: list[str] = []

    def part() -> None:
        try:
            interrupt()
        finally:
            interrupt()
            ended.append("processes")

    before = signal.getsignal(signal.SIGINT)
    assert run(Given(audit=part), "--json").exit_code == 130
    assert ended == ["processes"]
    assert signal.getsignal(signal.SIGINT) is before


@pytest.mark.parametrize("stopped", [True, False])
def test_the_latency_part_lets_go_of_its_broker(stopped: bool) -> None:
    """After its last rate, before the next part begins; and when it is left half done."""
    given = Given(**({"latency 1000": interrupt} if stopped else {}))
    run(given, "--only", "latency,idle")
    done = ["latency 200"] if stopped else ["latency 200", "latency 1000", "latency 3000"]
    assert given.ended_latency_after == done


def test_ctrl_c_between_two_rates_lets_go_of_the_broker_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """While the measurement itself is not running."""
    given = Given()
    told: list[str] = []

    def tell(line: str, err: bool) -> None:
        told.append(line)
        if "latency at 200 PTR/s:" in line:
            interrupt()

    monkeypatch.setattr("pipeline.commands.bench.click.echo", lambda line="", err=False: tell(line, err))
    run(given, "--only", "latency")
    assert given.measured == given.ended_latency_after == ["latency 200"]


def test_a_part_that_fails_keeps_what_was_measured() -> None:
    """Code 1, the part and why, the figures before it on standard output."""

    def fail() -> None:
        raise RigError("front ended with 70:\nits log")

    result = run(Given(control=fail), "--json")
    assert result.exit_code == 1
    assert "Error: control: front ended with 70" in result.stderr
    assert json.loads(result.stdout)["audited_ptr_per_s"] == 5000
    assert json.loads(result.stdout)["missing"][0] == "control"


def test_several_rounds_give_the_median_and_all_of_them() -> None:
    """9000, 11000 and 10000: the median is 10000; throughput and audit take turns."""
    given = Given()
    figures = json.loads(run(given, "--only", "throughput,audit", "--rounds", "3", "--json").stdout)
    assert given.measured == ["throughput", "audit"] * 3
    assert (figures["completed_ptr_per_s"], figures["completed_ptr_per_s_min"]) == (10_000, 9000)
    assert figures["completed_ptr_per_s_rounds"] == [9000, 11_000, 10_000]


def test_the_engine_alone_has_rounds_and_survives_ctrl_c_too() -> None:
    """The first of two rounds is reported."""
    rounds = iter((lambda: None, interrupt))
    result = run(Given(engine=lambda: next(rounds)()), "engine", "--rounds", "2", "--json")
    assert result.exit_code == 130
    figures = json.loads(result.stdout)
    assert (figures["engine_ptr_per_s"], figures["missing"]) == (9000, ["engine, round 2"])
