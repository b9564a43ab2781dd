"""Table ``reviews``: payments that wait for a person, and how their reviews ended. Keyed by payment."""

from __future__ import annotations

from pipeline import topics
from pipeline.stages.reviews import Reviews

NAME = "reviews"
CHANGELOG = topics.TABLE_REVIEWS.name
ROW = Reviews
