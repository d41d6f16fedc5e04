"""FAVE's loads behind Locust's login, as a person sets it up; nobody may come in."""

from __future__ import annotations

from locust import events

from typing import Any

from locustfiles.load import LoadUser

__all__ = ["LoadUser"]


@events.init.add_listener
def _guard(environment: Any, **_: Any) -> None:
    environment.web_ui.app.config["SECRET_KEY"] = "for a test"
    environment.web_ui.login_manager.user_loader(lambda _: None)
    environment.web_ui.auth_args = {"username_password_callback": "/login_submit"}
