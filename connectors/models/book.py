"""Fraud models that were read, and which of them score at a time: the champion, and a challenger beside it."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol

from connectors.broker.parts import IncompleteError, whole
from connectors.models.onnx_model import OnnxModel
from connectors.timeline import Timeline, in_force
from pipeline.stages.fraud_model import UnusableModelError
from schemas.records import ModelPart, ModelPromoted, ModelUpdated

log = logging.getLogger(__name__)

CHAMPION, CHALLENGER = "champion", "challenger"
ROLES: Final = (CHAMPION, CHALLENGER)
#: A promotion is in force this long after its timestamp: by then every worker has read it and loaded the model (some
#: 50 ms), so that all of them, and a repeat after a crash, score a payment by the same one.
EFFECTIVE_DELAY_MS: Final = 3_000
#: Promotions of a role that are remembered, for payments that were received before the last.
PROMOTIONS_KEPT: Final = 4
#: Models whose files are held: as many as are kept in the topic, and some that are being published.
MODELS_HELD_MAX: Final = 32


@dataclass(frozen=True, slots=True)
class InForce:
    """What scores. ``unusable`` names a champion that was promoted and cannot be run."""

    champion: OnnxModel | None = None
    challenger: OnnxModel | None = None
    unusable: str = ""


#: While no model was ever promoted.
NO_MODELS: Final = InForce()


class ModelWatch(Protocol):
    """Who wants to know what becomes of models: metrics. Called in the thread that reads."""

    def in_force(self, champion: str, challenger: str) -> None:
        """The newest promotions' versions; empty for none."""

    def refused(self) -> None:
        """A model cannot be used."""


class _Nobody:
    def in_force(self, champion: str, challenger: str) -> None:
        pass

    def refused(self) -> None:
        pass


class ModelBook:
    """What the payee stage asks. One thread takes in, any thread asks: what they see is replaced, never changed."""

    def __init__(self, watch: ModelWatch | None = None, load: Callable[[bytes], OnnxModel] = OnnxModel) -> None:
        self._watch = watch or _Nobody()
        self._load = load
        #: Who asks for a time before the first one is given the first one.
        self._in_force: Timeline[InForce] = ((0, NO_MODELS),)
        self._parts: dict[str, dict[int, bytes]] = {}
        self._heads: dict[str, ModelUpdated] = {}
        #: By role, then by version: when the promotion is in force.
        self._promoted: dict[str, dict[str, int]] = {role: {} for role in ROLES}
        self._loaded: dict[str, OnnxModel | None] = {}
        self._changed = self._forgot = False

    # -- asked by the stage -------------------------------------------------------------------------------------------

    def in_force(self, at_ms: int) -> InForce:
        """What scores a payment that was received at ``at_ms``."""
        timeline = self._in_force
        return in_force(timeline, at_ms, before=timeline[0][1])

    # -- fed by the reader --------------------------------------------------------------------------------------------

    def take_part(self, part: ModelPart) -> None:
        """Take in a part; nothing comes of it before its head and a promotion."""
        if part.version not in self._parts and len(self._parts) >= MODELS_HELD_MAX:
            gone = next((each for each in self._parts if not self._is_promoted(each)), None)
            if gone is not None:
                self.forget_model(gone)
        self._parts.setdefault(part.version, {})[part.part] = part.content

    def take_head(self, head: ModelUpdated) -> None:
        """Take in a head."""
        self._heads[head.version] = head
        self._changed = True

    def take_promotion(self, promoted: ModelPromoted, timestamp_ms: int) -> None:
        """Take in a promotion; a role that is not known is refused."""
        if promoted.role not in self._promoted:
            self.refuse(f"a promotion to the role {promoted.role[:40]!r}", "there is none of this name")
            return
        versions = self._promoted[promoted.role]
        versions.pop(promoted.version, None)
        # Never before the one that it replaces, even if clocks of brokers differ.
        versions[promoted.version] = max([timestamp_ms + EFFECTIVE_DELAY_MS, *versions.values()])
        self._changed = True

    def forget_model(self, version: str) -> None:
        """A head was removed: the model is no longer offered. One that is in force stays until another is promoted."""
        self._heads.pop(version, None)
        self._parts.pop(version, None)

    def forget_promotion(self, role: str, version: str) -> None:
        """A promotion was removed; the last one of a role stays, as no model is ever withdrawn by removing records."""
        versions = self._promoted.get(role, {})
        if version in versions and len(versions) > 1:
            del versions[version]
            self._changed = True

    def refuse(self, what: str, why: str) -> None:
        """Log and count what cannot be used."""
        log.error("fraud model: %s cannot be used: %s", what, why)
        self._watch.refused()

    def take_up(self) -> bool:
        """Load what was promoted and put it in force; False when nothing is new. Takes some 50 ms a model."""
        if not self._changed:
            return False
        self._changed = False
        for versions in self._promoted.values():
            for version in list(versions)[:-PROMOTIONS_KEPT]:
                del versions[version]
                self._forgot = True
        moments = sorted({at_ms for versions in self._promoted.values() for at_ms in versions.values()})
        wanted = {version for versions in self._promoted.values() for version in versions if version}
        # What could not be loaded is tried again: its parts may have come since.
        self._loaded = {v: self._loaded.get(v) or self._load_version(v) for v in sorted(wanted)}
        begun = tuple((at_ms, self._together(at_ms)) for at_ms in moments)
        # Before the first promotion there was none; what was forgotten is taken to be the oldest that is known.
        self._in_force = begun if self._forgot and begun else ((0, NO_MODELS), *begun)
        newest = self._in_force[-1][1]
        self._watch.in_force(
            newest.champion.version if newest.champion else "", newest.challenger.version if newest.challenger else ""
        )
        return True

    # -- inside -------------------------------------------------------------------------------------------------------

    def _is_promoted(self, version: str) -> bool:
        return any(version in versions for versions in self._promoted.values())

    def _load_version(self, version: str) -> OnnxModel | None:
        head = self._heads.get(version)
        if head is None:
            self.refuse(f"version {version}", "it was promoted and is not in the topic")
            return None
        started_s = time.monotonic()
        try:
            model = self._load(whole(head, self._parts.get(version, {})))
        except (IncompleteError, UnusableModelError) as error:
            self.refuse(f"version {version}", str(error))
            return None
        log.info("fraud model %s is ready after %.2f s", version, time.monotonic() - started_s)
        return model

    def _together(self, at_ms: int) -> InForce:
        champion, challenger = self._at(CHAMPION, at_ms), self._at(CHALLENGER, at_ms)
        model = self._loaded.get(champion)
        return InForce(model, self._loaded.get(challenger), champion if champion and model is None else "")

    def _at(self, role: str, at_ms: int) -> str:
        begun = [version for version, from_ms in self._promoted[role].items() if from_ms <= at_ms]
        return begun[-1] if begun else ""
