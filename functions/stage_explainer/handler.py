"""stage-explainer: ranking.json → explanation.json, by a language model where one is configured, else extracted."""

from __future__ import annotations

import os
from typing import Any

from fave.errors import StageError
from functions import stage
from functions.documents import Ranking
from functions.stage_explainer.config import Config
from functions.stage_explainer.language_model import explain
from functions.stage_explainer.summary import summarise


def work(job: stage.Job) -> None:
    config = job.config(Config)
    ranking = job.decode(job.inputs_named("ranking.json")[0], Ranking)
    text, source, failure = "", "language-model", ""
    if os.environ.get("LLM_BASE_URL"):
        try:
            text = explain(ranking, config.max_clips, config.llm_timeout_s)
        except StageError as error:
            if config.on_llm_failure == "fail":
                raise
            failure = error.reason
    if not text:
        text, source = summarise(ranking, config.max_clips), "extract"
    job.write_json("explanation.json", {"text": text, "source": source, "llm_failure": failure})


def handle(event: Any, context: Any) -> dict[str, Any]:
    return stage.run("stage-explainer", event, context, work)


stage.warm_up()
