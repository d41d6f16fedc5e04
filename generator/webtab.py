"""FAVE's tab in the Locust web UI: live charts, figures by stage, regime buttons, finished reports."""

from __future__ import annotations

import hmac
import json
import re
import secrets
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from flask import Blueprint, Response, abort, jsonify, render_template_string, request, send_from_directory

from fave.campaign.rundir import RUNS
from fave.errors import ConfigError, FaveError
from generator.coordinator import Coordinator, the_user_class
from generator.live import Live
from generator.options import HIDDEN, RunOptions
from generator.process import MISTAKES
from regimes import model as regimes

_STATIC = Path(__file__).with_name("static")
_PAGE = (_STATIC / "fave.html").read_text(encoding="utf-8")
_LOOPBACK = ("127.0.0.1", "localhost", "::1")
_REPORTS_SHOWN = 12
_OF_A_REPORT = re.compile(r"report\.html|figures/[\w-]+\.svg")


def install(environment: Any, live: Live, coordinator: Coordinator) -> None:
    """Add the tab, its routes, and what guards them, to Locust's web UI."""
    web_ui = environment.web_ui
    token = secrets.token_urlsafe(32)
    base = environment.parsed_options.web_base_path or ""
    app = web_ui.app
    app.before_request(lambda: _refuse_foreign(environment.parsed_options.web_host))
    started = app.view_functions["locust.swarm"]
    app.view_functions["locust.swarm"] = web_ui.auth_required_if_enabled(
        lambda: _refuse_bad_start(environment) or started()
    )
    open_loop = all(getattr(user_class, "open_loop", False) for user_class in environment.user_classes)
    app.after_request(lambda response: _with_tab(response, base, open_loop=open_loop))
    app.wsgi_app = _without_cors(app.wsgi_app, f"{base}/fave")
    # `update_template_args` keeps what it does not know.
    web_ui.template_args["extended_tabs"] = [{"title": "FAVE", "key": "fave"}]
    app.register_blueprint(_routes(web_ui, live, coordinator, token), url_prefix=f"{base}/fave")


def _routes(web_ui: Any, live: Live, coordinator: Coordinator, token: str) -> Blueprint:
    blueprint = Blueprint("fave", __name__)

    @blueprint.route("")
    @web_ui.auth_required_if_enabled
    def page() -> str:
        return render_template_string(_PAGE, token=token, regimes=regimes.names())

    @blueprint.route("/static/<path:name>")
    def static(name: str) -> Response:
        return send_from_directory(_STATIC, name)

    @blueprint.route("/snapshot")
    @web_ui.auth_required_if_enabled
    def snapshot() -> Response:
        return jsonify(live.snapshot(since=request.args.get("since", 0, type=int)))

    @blueprint.route("/regime", methods=["POST"])
    @web_ui.auth_required_if_enabled
    def switch() -> Any:
        if not hmac.compare_digest(request.headers.get("X-Fave-Token", "").encode(), token.encode()):
            return jsonify(problem="the page is out of date: load it again"), 403
        asked = request.get_json(silent=True)
        name = asked.get("regime") if isinstance(asked, dict) else None
        if name not in regimes.names():
            return jsonify(problem=f"unknown regime {name!r} (there are: {', '.join(regimes.names())})"), 400
        try:
            coordinator.switch_by_hand(name)
        except FaveError as error:
            return jsonify(problem=str(error)), 502
        return jsonify(regime=name)

    @blueprint.route("/runs")
    @web_ui.auth_required_if_enabled
    def reports() -> Response:
        return jsonify([path.parent.name for path in _reports()])

    @blueprint.route("/runs/<run>/<path:name>")
    @web_ui.auth_required_if_enabled
    def report(run: str, name: str) -> Response:
        # By name, not by path: what a person may see are reports, wherever the dots in a path lead.
        known = {path.parent.name for path in RUNS.glob("*/report.html")}
        if run not in known or not _OF_A_REPORT.fullmatch(name):
            abort(404)
        return send_from_directory(RUNS / run, name)

    return blueprint


def _reports() -> list[Path]:
    """The newest finished ones first."""
    found = sorted(RUNS.glob("*/report.html"), key=lambda path: path.stat().st_mtime, reverse=True)
    return found[:_REPORTS_SHOWN]


def _refuse_foreign(web_host: str) -> Any:
    """State is changed from our own pages only: Locust lets every Origin in, and a name may be rebound to loopback."""
    if web_host in _LOOPBACK and urlsplit(f"//{request.host}").hostname not in _LOOPBACK:
        return Response(f"this page is at {web_host} only", 403)
    origin = request.headers.get("Origin")
    if request.method not in ("GET", "HEAD", "OPTIONS") and origin and urlsplit(origin).netloc != request.host:
        return Response(f"not from {origin}", 403)
    return None


def _refuse_bad_start(environment: Any) -> Any:
    """The start form says what is wrong with it; Locust itself checks no choices."""
    asked = {**vars(environment.parsed_options), **request.form.to_dict()}
    try:
        if hidden := [name for name in HIDDEN if name in request.form]:
            raise ConfigError(f"not from the web: {', '.join(hidden)}")
        options = RunOptions.of(_Asked(asked))
        options.check()
        chosen = request.form.getlist("user_classes")
        if environment.web_ui.userclass_picker_is_active and len(chosen) == 1:
            if user_class := environment.available_user_classes.get(chosen[0]):
                user_class.check(options)
        else:
            the_user_class(environment).check(options)
    except MISTAKES as error:
        return jsonify(success=False, message=str(error), host=environment.host)
    return None


class _Asked:
    def __init__(self, values: dict[str, Any]) -> None:
        self.__dict__.update(values)


def _with_tab(response: Response, base: str, *, open_loop: bool) -> Response:
    """Our script in Locust's own page: it shows ours where the FAVE tab is, and puts the start form in order."""
    if response.mimetype == "text/html" and not response.direct_passthrough:
        html = response.get_data(as_text=True)
        if 'id="root"' in html and "templateArgs" in html:
            data = f'data-page="{base}/fave" data-open-loop="{json.dumps(open_loop)}"'
            tag = f'<script src="{base}/fave/static/tab.js" {data}></script>'
            response.set_data(html.replace("</body>", f"{tag}</body>"))
    return response


def _without_cors(wsgi_app: Any, prefix: str) -> Any:
    """Locust allows every Origin to read what it serves. Our page carries a token that others must not read."""

    def application(environ: dict[str, Any], start_response: Any) -> Any:
        if not environ.get("PATH_INFO", "").startswith(prefix):
            return wsgi_app(environ, start_response)

        def start(status: str, headers: list[tuple[str, str]], *more: Any) -> Any:
            own = [(name, value) for name, value in headers if not name.lower().startswith("access-control-")]
            own += [("X-Frame-Options", "SAMEORIGIN")]
            return start_response(status, own, *more)

        return wsgi_app(environ, start)

    return application
