"""A fraud model from its ONNX file: loaded, looked at, and run. Training is elsewhere; this needs only onnxruntime."""

from __future__ import annotations

import json
from hashlib import sha256
from typing import Any, Final

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from pipeline.stages.fraud_model import ModelFacts, UnusableModelError

#: Input and output of every model: rows of features, float32; one score in 0..1 for each, float32.
INPUT, OUTPUT = "features", "score"
#: The key under which the file says what it is, JSON.
METADATA_KEY: Final = "payment_pipeline"
#: Of the hash of the file: how a model is named in events.
VERSION_CHARS: Final = 12
#: Some ten times the largest model that is known to be useful.
MODEL_BYTES_MAX: Final = 16 << 20
#: Rows that are scored when a model is loaded, to see that it runs.
_PROBES: Final = 8


class OnnxModel:
    """A model that runs: ``score`` gives the same score for a row, whatever rows come with it."""

    def __init__(self, content: bytes) -> None:
        """Load ``content``; raises :class:`UnusableModelError` for what is no model of this pipeline, or does not run."""
        if len(content) > MODEL_BYTES_MAX:
            raise UnusableModelError(f"its file has {len(content)} bytes, at most {MODEL_BYTES_MAX} are taken")
        self.sha256 = sha256(content).hexdigest()
        self.version = self.sha256[:VERSION_CHARS]
        options = onnxruntime.SessionOptions()
        # One thread, ours: a pool would spin on cores that other stages need.
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.enable_cpu_mem_arena = False
        options.log_severity_level = 4
        try:
            self._session: Any = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
            inputs, outputs = self._session.get_inputs(), self._session.get_outputs()
        except Exception as error:  # whatever the bytes provoke
            raise UnusableModelError(f"its file cannot be loaded: {type(error).__name__}") from None
        self.facts = _facts(self._session.get_modelmeta().custom_metadata_map)
        if [each.name for each in inputs] != [INPUT] or OUTPUT not in [each.name for each in outputs]:
            raise UnusableModelError(f"it has no input {INPUT!r} or no output {OUTPUT!r}")
        if inputs[0].shape[-1] != len(self.facts.features):
            raise UnusableModelError(f"its input takes {inputs[0].shape[-1]} features, its list names another number")
        self._columns = self.facts.columns()
        probes = np.tile(np.array(self.facts.medians, dtype=np.float32), (_PROBES, 1))
        try:
            self.score(probes)
        except UnusableModelError:
            raise
        except Exception as error:  # whatever the file makes the runtime do
            raise UnusableModelError(f"it does not run: {type(error).__name__}") from None

    def rows(self, matrix: NDArray[np.float32]) -> NDArray[np.float32]:
        """The model's own features out of a matrix of all (pipeline.stages.features)."""
        return np.ascontiguousarray(matrix[:, self._columns])

    def score(self, rows: NDArray[np.float32], options: Any = None) -> NDArray[np.float32]:
        """One score for each of ``rows``. Raises :class:`UnusableModelError` when it is no number in 0..1."""
        if not len(rows):
            return np.empty(0, dtype=np.float32)
        scores = np.asarray(self._session.run([OUTPUT], {INPUT: rows}, options)[0], dtype=np.float32).reshape(-1)
        if len(scores) != len(rows) or not bool(np.all((scores >= 0) & (scores <= 1))):
            raise UnusableModelError("its scores are not one number in 0..1 for each row")
        return scores


def _facts(metadata: dict[str, str]) -> ModelFacts:
    try:
        data = json.loads(metadata[METADATA_KEY])
        return ModelFacts(
            features=tuple(map(str, data["features"])),
            medians=tuple(map(float, data["medians"])),
            feature_set=int(data["feature_set"]),
            description=dict(data["description"]),
        )
    except UnusableModelError:
        raise
    except (KeyError, TypeError, ValueError) as error:
        raise UnusableModelError(f"its file does not say what it reads: {type(error).__name__}") from None
