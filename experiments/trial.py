"""Each request once, before a campaign begins: what cannot work is said now, and not after it."""

from __future__ import annotations

import requests

from experiments.model import Experiment
from fave.calling import plain_session
from fave.clock import utc_ns
from fave.errors import PlatformError
from fave.wire.invocation import Invocation
from platforms.model import Platform
from workloads.model import Workload


def ask_once(experiment: Experiment, work: Workload, platform: Platform, prefix: str) -> None:
    """Of functions that FAVE does not host: its own are known to answer, and a whole pipeline takes its time.

    Raises
    ------
    PlatformError
        With every request whose answer is not what the workload expects.
    """
    problems: dict[str, None] = {}
    # As the generator sends: no proxy, no netrc, and no header that it would not send.
    session = plain_session()
    session.headers.clear()
    for label, load in experiment.loads.items():
        asking = experiment.asking(label, bucket=platform.endpoints.bucket)
        for sent in asking.each(f"{prefix}-trial"):
            # An arm in which a stage runs within another function is not asked for it.
            if sent.function in work.functions and not work.functions[sent.function].hosted:
                call = Invocation(request_id=f"{prefix}-trial", invocation_id=f"{prefix}-trial", sent_at_ns=utc_ns())
                url = f"{platform.endpoints.gateway_url}/function/{sent.function}{sent.path}"
                try:
                    reply = session.request(
                        sent.method,
                        url,
                        data=sent.body or None,
                        headers=call.headers() | sent.headers,
                        timeout=float(load.request_timeout),
                        allow_redirects=False,
                    )
                    wrong = asking.wrong(sent.request, reply.status_code, reply.content)
                except requests.RequestException as error:
                    wrong = f"no answer ({type(error).__name__})"
                if wrong:
                    problems[f"requests.{sent.request}: asked once, before the first run: {wrong}"] = None
    if problems:
        raise PlatformError("\n".join(problems), hint="the workload's request, its `expect`, or the function is wrong")
