"""stage-object-detector, per clip: its frames, one at a time → detections.json (SSDLite-MobileNetV2, COCO classes)."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np

from fave.environment import threads
from functions import onnx_model, stage
from functions.frames import time_of
from functions.stage_object_detector.config import Config
from functions.stage_object_detector.labels import LABELS
from functions.stage_object_detector.picture import MAX_BYTES, decoded

MODEL = "ssdlite-mobilenet-v2-coco"


def objects_in(boxes: Any, scores: Any, config: Config) -> list[dict[str, object]]:
    """One frame's objects, best first. boxes: [A, 4] ymin, xmin, ymax, xmax (0 to 1); scores: [A, 90]."""
    anchor, category = np.nonzero(scores > config.min_score)
    if not len(anchor):
        return []
    corners, values = boxes[anchor], scores[anchor, category]
    as_xywh = np.column_stack(
        [corners[:, 1], corners[:, 0], corners[:, 3] - corners[:, 1], corners[:, 2] - corners[:, 0]]
    )
    kept = cv2.dnn.NMSBoxesBatched(
        as_xywh.tolist(), values.tolist(), category.tolist(), config.min_score, config.max_overlap
    )
    found = [
        {
            "label": LABELS[category[i]],
            "score": round(float(values[i]), 4),
            "box": [round(float(x), 4) for x in corners[i]],
        }
        for i in np.asarray(kept).flatten()
    ]
    return sorted(found, key=lambda item: -item["score"])


def work(job: stage.Job) -> None:
    config = job.config(Config)
    session = _session.get(job)
    uris = job.inputs_named(".jpg")
    frames = []
    # A batch of all would take 20 MB more for each frame, and not less time.
    for uri in uris:
        name = uri.rpartition("/")[2]
        picture = decoded(job.read(uri, MAX_BYTES), name)
        (boxes,), (scores,), (feature,) = session.run(["boxes", "scores", "feature"], {"image": picture[np.newaxis]})
        objects = objects_in(boxes, scores, config)
        frames.append(
            {"frame": name, "uri": uri, "at_s": time_of(name), "objects": objects, "feature": feature_bytes(feature)}
        )
    job.write_json("detections.json", {"clip": job.envelope.clip, "model": MODEL, "frames": frames})


def feature_bytes(feature: Any) -> bytes:
    """[1280] float32, none negative, as a byte each: 255 for the largest, so that every feature uses the whole range.

    Cosines between frames of the samples change by 0.001 at most; four times as many bytes would keep them exactly.
    """
    levels = np.rint(feature * (255 / max(float(feature.max()), 1e-9)))
    return bytes(levels.astype(np.uint8))


def handle(event: Any, context: Any) -> dict[str, Any]:
    return stage.run("stage-object-detector", event, context, work)


def _load() -> Any:
    cv2.setNumThreads(threads())
    return onnx_model.load("models/ssdlite-mobilenet-v2-coco-features.onnx", "FAVE_DETECTOR_MODEL")


stage.warm_up()
_session = stage.Model(_load)
