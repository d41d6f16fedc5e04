"""A request's result as a person reads it: on the terminal, and as a page with pictures and playable clips."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import Any

import jinja2

from fave.clock import minutes
from fave.storage import Store
from fave.wire import keys
from fave.wire.final import Final

TEMPLATES = Path(__file__).parent / "templates"
_WIDTH = 100
# The page is looked at soon, and its addresses open the objects to whoever has them.
_LINKS_VALID_S = 6 * 3600


def text_of(final: Final) -> str:
    """Ranked clips with time, score, what is seen and said; the explanation; what it took."""
    lines = ["", f"searched  {media_of(final)}", f"\nbest clips for \u201c{final.query}\u201d"]
    for place, clip in enumerate(final.ranking, 1):
        times = f"{minutes(clip['start_s'])} to {minutes(clip['end_s'])}"
        parts = f"seen {clip['seen_score']:.2f}, said {clip['said_score']:.2f}, meaning {clip['similarity']:.2f}"
        lines.append(f"\n{place}. {clip['clip']}  {times}  score {clip['score']:.2f} ({parts})")
        lines += _wrapped("shows", seen_in(clip) or "nothing that the detector knows")
        if clip["frames"]:
            lines += _wrapped("pictures", "; ".join(_picture(frame) for frame in clip["frames"]))
        lines += _wrapped("says", said_in(clip))
    if final.like:
        lines.append(f"\npictures like the one of {final.like['clip']} at {_picture(final.like)}")
        lines += [f"{frame['similarity']:.3f}  {frame['clip']}  at {_picture(frame)}" for frame in final.alike]
        lines += [] if final.alike else ["none: all others are the same picture"]
    for name, error in final.skipped.items():
        lines.append(f"\nleft out: {name} ({error.stage}: {error.reason})")
    explanation = final.explanation
    lines.append("")
    lines += textwrap.wrap(explanation["text"], _WIDTH)
    if explanation["llm_failure"]:
        lines.append(f"(extracted, because the language model failed: {explanation['llm_failure']})")
    return "\n".join([*lines, "", summary_of(final)])


def media_of(final: Final) -> str:
    """What was searched, and which of several sound tracks: `11.2 s, 640x360 h264, aac (track 2 of 3, eng)`."""
    media, sound = final.media, final.media["sound"]
    about = [f"track {sound['track']} of {sound['tracks']}"] if sound["tracks"] > 1 else []
    about += [word for word in (sound["language"], sound["title"]) if word and word != "und"]
    said = f" ({', '.join(about)})" if about else ""
    picture = f"{media['picture']['width_px']}x{media['picture']['height_px']} {media['picture']['codec']}"
    return f"{media['duration_s']:.1f} s, {picture}, {sound['codec']}{said}"


def summary_of(final: Final) -> str:
    m = final.metrics
    return (
        f"{m.duration_s:.2f} s, {m.invocations} invocations "
        f"({m.cold_invocations} cold, {m.retries} repeated), "
        f"{m.cost_gb_s:.2f} GB-s; critical path {m.critical_path_s:.2f} s, "
        f"of it {m.critical_path_cold_wait_s:.2f} s waiting for cold starts"
    )


def _picture(frame: dict[str, Any]) -> str:
    """`0:09.2 (car, person)`; the time is what `--like` takes."""
    seen = ", ".join(frame["labels"])
    return minutes(frame["at_s"]) + (f" ({seen})" if seen else "")


def seen_in(clip: dict[str, Any]) -> str:
    return ", ".join(f"{label} {score:.2f}" for label, score in clip["objects"].items())


def said_in(clip: dict[str, Any]) -> str:
    """What the model is sure of; what it only guesses is called that."""
    sure, guess = clip["text"], clip["uncertain"]
    if not guess:
        return f"\u201c{sure}\u201d" if sure else "nothing"
    said = f"\u201c{sure}\u201d, and more" if sure else "nothing"
    return f"{said} that the English model is {'not ' if sure else ''}sure of (perhaps \u201c{guess}\u201d)"


def write_page(final: Final, store: Store, path: Path) -> None:
    """One HTML file; pictures and clips come from the object store by addresses that expire."""

    def pictures(frames: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return [
            {**frame, "address": store.presigned(frame["uri"], valid_s=_LINKS_VALID_S), "caption": _picture(frame)}
            for frame in frames
        ]

    clips = [
        {
            **clip,
            "times": f"{minutes(clip['start_s'])} \u2013 {minutes(clip['end_s'])}",
            "seen": seen_in(clip),
            "pictures": pictures(clip["frames"]),
            "video": store.presigned(
                store.uri(keys.outputs(final.request_id, f"stage-ffmpeg-2/{clip['clip']}") + "clip.mp4"),
                valid_s=_LINKS_VALID_S,
            ),
        }
        for clip in final.ranking
    ]
    environment = jinja2.Environment(loader=jinja2.FileSystemLoader(TEMPLATES), autoescape=True)
    page = environment.get_template("request.html.j2")
    path.parent.mkdir(parents=True, exist_ok=True)
    given = pictures([final.like] if final.like else [])
    about = {"summary": summary_of(final), "media": media_of(final)}
    text = page.render(final=final, clips=clips, given=given, alike=pictures(final.alike), **about)
    path.write_text(text, encoding="utf-8")


def _wrapped(head: str, text: str) -> list[str]:
    return textwrap.wrap(f"{head:>11}  {text}", _WIDTH, subsequent_indent=" " * 13)
