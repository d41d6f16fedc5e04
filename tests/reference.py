"""`python -m tests.reference`: write docs/configuration.md from the code. A test holds the two together."""

from __future__ import annotations

import typing
from importlib import import_module
from typing import Any

import msgspec
from msgspec import NODEFAULT, inspect

from fave.configuration import FUNCTION_SETTINGS, variable_of
from fave.settings import ROOT
from tests.support.videosearcher import ORCHESTRATOR, STAGES

PAGE = ROOT / "docs" / "configuration.md"

HEAD = """# Configuration of the functions

Written by `python -m tests.reference` from the code.

A setting comes from the request (`config: {"stage-ffmpeg-3": {"fps": 1}}`), else from the function's environment
(`CONFIG_FPS=1`), else it has its default. What does not fit its type or range is `bad-request`, with its name.

The defaults keep to the original VideoSearcher where that makes sense. They differ where it would lose what is said
or seen: clips of 6 s and less are kept (`min_clip_s`), silence begins at a fixed threshold instead of a search for a
number of clips (`search_threshold: true` brings it back), and the detector's thresholds are those of another model.
`make invoke` and the shipped experiments sample one frame a second instead of one in five: the clips of the samples
are short.
"""

CREDENTIALS = """
With keys nothing else of an AWS account counts: no profile, no file, no `AWS_ENDPOINT_URL`, no session token but that
of the same source. `AWS_CA_BUNDLE` does where the store speaks https, and proxies where it is not on this machine.
Without keys boto3 looks for an identity as it always does: `AWS_PROFILE`, a pod's role.

For FAVE's own commands, credentials belong to their address: user and password to `GATEWAY_URL`; keys, session token
and `FAVE_BUCKET` to `S3_ENDPOINT_URL`. Where an address is not set, the embedded platform is meant, which has its own.

The embedded gateway itself: `FAVE_CHUNKED_BODIES` (1: requests' bodies reach functions chunked, [as OpenFaaS sends
them](local-platform.md#held-against-openfaas)), `FAVE_CONTROL_GROUPS` (0: memory is watched from outside even where
the kernel would bound it, and CPU is not bounded).

Campaigns on somebody's platform: `IDLER` (on, or dry: [FAVE scales its idle functions to zero](openfaas.md#the-idler)),
`KUBECONFIG` and `FAVE_FUNCTION_NAMESPACE` ([Kubernetes beside it](openfaas.md#with-kubernetes-beside-it)),
`PLATFORM` ([which kind](platforms.md)), `FAVE_CA_FILE` (certificates of an authority of your own, for gateway and
Prometheus), `FAVE_SHIP_RUNS` (1: run folders go to the object store as they grow).

A value that cannot be used ends the start with variable, value and remedy (exit code 2).
"""

SETTINGS_HEAD = """
## Every function

By environment only. The embedded platform passes on what it was started with, `CONFIG_*` to every function alike; on a
cluster write them into `functions/stack.yml`, which has addresses, secrets and the language model only.

| variable | meaning |
|---|---|
| `S3_ENDPOINT_URL`, `FAVE_BUCKET` | the object store and its bucket |
| `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY` | or secrets of these names: `aws-access-key-id`, … |
| `AWS_SESSION_TOKEN` | with temporary keys; or secret `aws-session-token` |
| `secret_mount_path` | where secrets lie as files (/var/openfaas/secrets) |
| `LLM_API_KEY` | stage-explainer: sent to the language model as a bearer token; or secret `llm-api-key` |
| `GATEWAY_URL` | orchestrator: where the stages are called |
"""


def config_of(function: str) -> type[msgspec.Struct]:
    module = "orchestrator.options" if function == ORCHESTRATOR else f"functions.{function.replace('-', '_')}.config"
    found: type[msgspec.Struct] = import_module(module).Config
    return found


def page() -> str:
    parts = [HEAD]
    for function in (ORCHESTRATOR, *STAGES):
        parts.append(f"\n## {function}\n\n| setting | environment | default | |\n|---|---|---|---|\n")
        parts += [_row(field, config_of(function)) for field in msgspec.structs.fields(config_of(function))]
    parts.append(SETTINGS_HEAD)
    parts += [f"| `{name}` | {meaning} |\n" for name, meaning in FUNCTION_SETTINGS.items()]
    return "".join([*parts, CREDENTIALS])


def _row(field: Any, cls: type[msgspec.Struct]) -> str:
    kind = inspect.type_info(typing.get_type_hints(cls, include_extras=True)[field.name])
    default = field.default if field.default is not NODEFAULT else field.default_factory()
    shown = "" if default in ("", {}) else f"`{str(default).lower() if isinstance(default, bool) else default}`"
    said = "; ".join(part for part in (_description(kind), _range(kind)) if part)
    return f"| `{field.name}` | `{variable_of(field.name)}` | {shown} | {said} |\n"


def _description(kind: Any) -> str:
    found = ""
    while isinstance(kind, inspect.Metadata):
        found = found or (kind.extra_json_schema or {}).get("description", "")
        kind = kind.type
    return found


def _range(kind: Any) -> str:
    while isinstance(kind, inspect.Metadata):
        kind = kind.type
    if isinstance(kind, inspect.LiteralType):
        return " or ".join(f"`{value}`" for value in kind.values)
    words = {"gt": "over", "ge": "from", "lt": "under", "le": "to"}
    bounds = [
        f"{word} {getattr(kind, name):g}" for name, word in words.items() if getattr(kind, name, None) is not None
    ]
    return " ".join(bounds)


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
