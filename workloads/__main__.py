"""`python -m workloads`: write the first lines of a workload of your own."""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path
from urllib.parse import urlsplit

from fave.cli import run_door
from fave.errors import ConfigError
from fave.settings import decode
from fave.yaml_file import parse
from workloads.model import Workload

_TEMPLATE = """\
# What is measured, and what it is asked: docs/workloads.md has every key.
description: {name}
{deploy}functions:
  {name}:
{how}    # Enforced on the embedded platform, and what costs count with.
    memory_limit_mb: 256
    # So many at the same time in one replica; more wait, or start another one.
    max_in_flight: 1
requests:
  ask:
    function: {name}
    method: POST
    path: {path}
    # Text, or keys and values that are sent as JSON, or "@FILE". {{k}} is the number of the arrival.
    body: "hello {{k}}"
    # What a right answer is; `json: {{/pointer: value}}` and `text: regular expression` may stand here, too.
    expect: {{status: 200}}
"""
_COMMAND = """\
    # Any program that serves HTTP on the port that it is given; paths are relative to this file.
    command: {command}
    # Ready once its port accepts connections; or once a path answers 200:
    # ready: {{path: /healthz, timeout: 60s}}
"""
_IMAGE = """\
    image: {image}
"""
_DEPLOYED = """\
# It is deployed already: only its scaling is changed, and put back. The figures below must be what is deployed.
deploy: false
"""


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m workloads", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    init = commands.add_parser("init", help="write a commented workload to a new file")
    init.add_argument("file", nargs="?", default="my.yml", help="where it goes (default: my.yml)")
    init.add_argument("--name", default="", help="of the function (default: from what it runs)")
    what = init.add_mutually_exclusive_group(required=True)
    what.add_argument("--run", default="", help='a command for the embedded platform: "python3 server.py {port}"')
    what.add_argument("--image", default="", help="a container image, for a cluster")
    what.add_argument("--url", default="", help="of a deployed function: http://GATEWAY/function/NAME/PATH")
    arguments = parser.parse_args()
    text = workload(run=arguments.run, image=arguments.image, url=arguments.url, name=arguments.name)
    try:
        with Path(arguments.file).open("x", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        raise ConfigError(f"{arguments.file}: {error.strerror}", hint="name a file that is not there yet") from error
    print(f"{arguments.file} is written: say in it what is asked, then make bench WORKLOAD={arguments.file}")
    return 0


def workload(*, run: str = "", image: str = "", url: str = "", name: str = "") -> str:
    """The text of a workload's file.

    Raises
    ------
    ConfigError
        For what cannot become one.
    """
    path, how = "/", ""
    if run:
        how = _COMMAND.format(command=_quoted(run))
        name = name or (run.split() or [""])[0].rpartition("/")[2]
    elif image:
        how = _IMAGE.format(image=_quoted(image))
        name = name or image.rpartition("/")[2].split(":")[0].split("@")[0]
    else:
        try:
            parts = urlsplit(url)
        except ValueError:
            parts = urlsplit("")
        found, query = re.fullmatch(r"/function/([^/]+)(/.*)?", parts.path), parts.query
        if not found:
            raise ConfigError(f"--url {url}: is no http://GATEWAY/function/NAME")
        name, path = name or found[1], (found[2] or "/") + f"?{query}" * bool(query)
    name = re.sub(r"[^-a-zA-Z0-9_.]+", "-", name).strip("-") or "function"
    text = _TEMPLATE.format(name=name, deploy=_DEPLOYED if url else "", how=how, path=_quoted(path))
    document = parse(text, "the workload")
    decode(document.data, Workload, document.place)
    return text


def _quoted(text: str) -> str:
    """As a YAML scalar on one line."""
    if re.fullmatch(r"[\w./:@{}?=& -]+", text) and not re.search(r"^[\s{-]|: |\s$|^\d+$", text):
        return text
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


if __name__ == "__main__":
    sys.exit(run_door(main))
