"""One worker of the engine benchmark: ``python -m pipeline.bench.toy_worker PREFIX STAGES`` (settings from ``PTR_*``)."""

from __future__ import annotations

import sys

from pipeline.bench import toy_stages
from pipeline.engine.app import make_app
from pipeline.engine.worker import run_worker
from pipeline.settings import load
from schemas.codec import Codec


def main() -> None:
    prefix, stages = sys.argv[1], tuple(sys.argv[2].split(","))
    settings = load(group=f"{prefix}-{'-'.join(stages)}")
    run_worker(make_app(settings, toy_stages.groups(prefix, stages), codec=Codec()))


if __name__ == "__main__":
    main()
