"""FAVE's panel in the Locust web UI: live replicas from Prometheus, cold starts and in-flight from the generator."""

from __future__ import annotations

from locust import events

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gevent
from flask import Blueprint, Response, jsonify, render_template_string

from fave.endpoints import find
from fave.errors import FaveError
from prom import queries
from prom.client import Prometheus

if TYPE_CHECKING:
    from locustfiles._dispatch import Dispatcher
    from locustfiles._recording import Recorder

_PAGE = Path(__file__).with_name("_panel.html").read_text(encoding="utf-8")
_TAB_SCRIPT = Path(__file__).with_name("_panel.js").read_text(encoding="utf-8")
_watched: dict[str, Any] = {}


def watch(dispatcher: Dispatcher, recorder: Recorder) -> None:
    """Show this run in the panel."""
    _watched.update(dispatcher=dispatcher, recorder=recorder, complaint="")


def complain(text: str) -> None:
    """Say in the panel why a run was not started."""
    _watched.clear()
    _watched["complaint"] = text


def snapshot() -> dict[str, Any]:
    """What the panel shows now: `functions` by name, the generator's counters, or the reason why there are none."""
    view: dict[str, Any] = {"at_s": time.time(), "functions": {}, "problem": _watched.get("complaint", "")}
    try:
        prometheus = Prometheus(find().prometheus_url)
        ready, desired = prometheus.latest(queries.READY), prometheus.latest(queries.DESIRED)
        view["functions"] = {name: {"ready": ready.get(name, 0), "desired": desired[name]} for name in sorted(desired)}
    except FaveError as error:
        view["problem"] = str(error)
    recorder, dispatcher = _watched.get("recorder"), _watched.get("dispatcher")
    if recorder and dispatcher:
        share = recorder.cold / recorder.answered if recorder.answered else None
        view["load"] = {
            "answered": recorder.answered,
            "cold": recorder.cold,
            "cold_share": share,
            "dropped": recorder.dropped,
            "in_flight": dispatcher.in_flight,
            "schedule_lag_ms": round(dispatcher.last_lag_s * 1000, 2),
        }
    return view


@events.init.add_listener
def _install(environment: Any, **_: Any) -> None:
    web_ui = environment.web_ui
    if not web_ui:
        return
    blueprint = Blueprint("fave", __name__)

    @blueprint.route("/fave")
    @web_ui.auth_required_if_enabled
    def page() -> str:
        return render_template_string(_PAGE)

    @blueprint.route("/fave/snapshot")
    @web_ui.auth_required_if_enabled
    def data() -> Response:
        # requests blocks in a thread, not in the generator's loop.
        return jsonify(gevent.get_hub().threadpool.apply(snapshot))

    @web_ui.app.after_request
    def add_tab(response: Response) -> Response:
        """Put FAVE's button into Locust's own pages."""
        if response.mimetype == "text/html" and not response.direct_passthrough:
            html = response.get_data(as_text=True)
            if 'id="root"' in html:
                response.set_data(html.replace("</body>", f"<script>{_TAB_SCRIPT}</script></body>"))
        return response

    web_ui.app.register_blueprint(blueprint)
