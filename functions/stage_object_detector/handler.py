"""stage-object-detector, per clip: its frames in one batch → detections.json (SSDLite-MobileNetV2, COCO classes)."""

from __future__ import annotations

import os
from typing import Any

import cv2
import numpy as np

from fave.errors import StageError
from functions import onnx_model, stage
from functions.frames import time_of
from functions.stage_object_detector.config import Config
from functions.stage_object_detector.labels import LABELS

MODEL = "ssdlite-mobilenet-v2-coco"
_SIDE_PX = 300


def decode_frame(jpeg: bytes) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """[300, 300, 3] RGB."""
    image = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR)
    if image is None:
        raise StageError("not-an-image", "a frame is not an image that OpenCV can read")
    return np.asarray(cv2.cvtColor(cv2.resize(image, (_SIDE_PX, _SIDE_PX)), cv2.COLOR_BGR2RGB), np.uint8)


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
    batch = np.stack([decode_frame(job.read(uri)) for uri in uris])
    boxes, scores = session.run(["boxes", "scores"], {"image": batch})
    frames = []
    for index, uri in enumerate(uris):
        name = uri.rpartition("/")[2]
        objects = objects_in(boxes[index], scores[index], config)
        frames.append({"frame": name, "uri": uri, "at_s": time_of(name), "objects": objects})
    job.write_json("detections.json", {"clip": job.envelope.clip, "model": MODEL, "frames": frames})


def handle(event: Any, context: Any) -> dict[str, Any]:
    return stage.run("stage-object-detector", event, context, work)


def _load() -> Any:
    cv2.setNumThreads(int(os.environ.get("FAVE_THREADS", "1")))
    return onnx_model.load("models/ssdlite-mobilenet-v2-coco.onnx", "FAVE_DETECTOR_MODEL")


stage.warm_up()
_session = stage.Model(_load)
