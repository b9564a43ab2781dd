"""Table ``attempts``: the state machine of each payment (pipeline.stages.dispatch, pipeline.stages.life). Keyed by payment."""

from __future__ import annotations

from pipeline import topics
from pipeline.stages.attempts import Attempts

NAME = "attempts"
CHANGELOG = topics.TABLE_ATTEMPTS.name
ROW = Attempts
