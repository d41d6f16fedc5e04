"""An OpenAI-compatible endpoint (`LLM_BASE_URL`) that explains a ranking."""

from __future__ import annotations

import os
import time

import msgspec
import requests

from fave.endpoints import credential
from fave.errors import StageError
from functions.documents import RankedClip, Ranking

_ROLE = (
    "You explain in at most four sentences why these clips of a video answer the query. "
    "Use only the facts given; `uncertain` is none, the speech was not understood. Name clips by their times."
)
_MAX_REPLY_BYTES = 64_000
_MAX_ANSWER_CHARACTERS = 2_000
# What the model is given of a clip; a long one's whole transcript would be over what small models can read.
_MAX_TEXT_CHARACTERS = 2_000
_MAX_OBJECTS = 20


class _Message(msgspec.Struct, frozen=True):
    content: str


class _Choice(msgspec.Struct, frozen=True):
    message: _Message


class _Completion(msgspec.Struct, frozen=True):
    choices: list[_Choice]


def explain(ranking: Ranking, max_clips: int, timeout_s: float) -> str:
    """The model's words.

    Raises
    ------
    StageError
        `llm`, retryable, when it does not answer in time, answers with an error or with something else.
    """
    get = os.environ.get
    url = get("LLM_BASE_URL", "").rstrip("/") + "/chat/completions"
    key = credential("LLM_API_KEY")
    facts = msgspec.json.encode({"query": ranking.query, "clips": facts_of(ranking.clips[:max_clips])}).decode()
    order = {
        "model": get("LLM_MODEL", "default"),
        "temperature": 0,
        "messages": [{"role": "system", "content": _ROLE}, {"role": "user", "content": facts}],
    }
    headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {key}"} if key else {})
    deadline_s = time.monotonic() + timeout_s
    try:
        with requests.post(
            url, data=msgspec.json.encode(order), headers=headers, timeout=(3.05, timeout_s), stream=True
        ) as reply:
            if reply.status_code != 200:
                again = reply.status_code >= 500 or reply.status_code == 429
                raise StageError("llm", f"the language model answered {reply.status_code}", retryable=again)
            return _words_of(_bounded(reply, deadline_s))
    except requests.RequestException as error:
        raise StageError("llm", f"no answer within {timeout_s:g} s ({type(error).__name__})", retryable=True) from error


def facts_of(clips: list[RankedClip]) -> list[RankedClip]:
    """The clips without what a model cannot use (addresses of pictures), and of bounded length."""
    return [
        msgspec.structs.replace(
            clip,
            text=clip.text[:_MAX_TEXT_CHARACTERS],
            objects=dict(list(clip.objects.items())[:_MAX_OBJECTS]),
            frames=[],
        )
        for clip in clips
    ]


def _bounded(reply: requests.Response, deadline_s: float) -> bytes:
    """The body; a server that drips or never ends gets neither the replica's time nor its memory."""
    content = b""
    for part in reply.iter_content(8192):
        content += part
        if len(content) > _MAX_REPLY_BYTES or time.monotonic() > deadline_s:
            raise StageError("llm", "the language model's answer does not end", retryable=True)
    return content


def _words_of(content: bytes) -> str:
    try:
        choices = msgspec.json.decode(content, type=_Completion).choices
    except ValueError as error:
        raise StageError("llm", f"the answer is no chat completion: {error}") from error
    words = choices[0].message.content.strip() if choices else ""
    if not words:
        raise StageError("llm", "the language model said nothing")
    return words[:_MAX_ANSWER_CHARACTERS]
