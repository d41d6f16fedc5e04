"""stage-embedder: transcripts, detections and the query → embeddings.json (MiniLM-L6, 384 dimensions, unit length).

Every text is embedded once: what is said in a clip, and what is seen in each sampled frame, so that single frames can
be found. The detector's feature of each frame is handed on beside them, for likeness of pictures.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from fave.programs import asset
from functions import onnx_model, stage
from functions.documents import Detections, Frame, Transcript
from functions.stage_embedder.config import Config

MODEL = "all-MiniLM-L6-v2"


def seen_text(frame: Frame) -> str:
    """What a frame shows, in words: `car, car, person`; empty when nothing was recognised."""
    return ", ".join(sorted(item.label for item in frame.objects))


def work(job: stage.Job) -> None:
    config = job.config(Config)
    transcripts = job.decode_all("transcript.json", Transcript)
    detections = job.decode_all("detections.json", Detections)
    seen = {frame.uri: seen_text(frame) for each in detections for frame in each.frames}
    said = {each.clip: each.text.strip() for each in transcripts}
    texts = [text for text in dict.fromkeys([config.query.strip(), *said.values(), *seen.values()]) if text]
    vectors = _embed(texts, _model.get(job), config)
    found = {
        "model": MODEL,
        "query": config.query.strip(),
        "clips": said,
        "frames": {uri: text for uri, text in seen.items() if text},
        "vectors": {text: [round(float(x), 5) for x in vector] for text, vector in zip(texts, vectors, strict=True)},
        "features": {frame.uri: frame.feature for each in detections for frame in each.frames},
    }
    job.write_json("embeddings.json", found)


def _embed(texts: list[str], model: tuple[Any, Any], config: Config) -> list[Any]:
    """[384] float32 per text."""
    session, tokenizer = model
    tokenizer.enable_truncation(config.max_tokens)
    vectors: list[Any] = []
    for first in range(0, len(texts), config.batch_size):
        encoded = tokenizer.encode_batch(texts[first : first + config.batch_size])
        tokens = np.array([each.ids for each in encoded], np.int64)
        mask = np.array([each.attention_mask for each in encoded], np.int64)
        vectors += list(session.run(["embedding"], {"input_ids": tokens, "attention_mask": mask})[0])
    return vectors


def handle(event: Any, context: Any) -> dict[str, Any]:
    return stage.run("stage-embedder", event, context, work)


def _load() -> tuple[Any, Any]:
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(asset("models/minilm-l6/tokenizer.json", "FAVE_EMBEDDER_TOKENIZER")))
    tokenizer.enable_padding()
    return onnx_model.load("models/minilm-l6/model.onnx", "FAVE_EMBEDDER_MODEL"), tokenizer


stage.warm_up()
_model = stage.Model(_load)
