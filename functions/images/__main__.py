"""`python -m functions.images`: build the functions' container images."""

from __future__ import annotations

import argparse
import os
import sys

from fave.cli import run_door
from functions.images.build import BASE, CLIENT, GROUPS, Target, build, build_client, docker


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m functions.images", description=__doc__)
    get = os.environ.get
    parser.add_argument(
        "groups", nargs="*", help=f"which ({', '.join(GROUPS)}; {CLIENT}: FAVE itself); default: all functions"
    )
    parser.add_argument(
        "--prefix", default=get("FAVE_IMAGE_PREFIX", ""), help="before each name: registry.example/fave-"
    )
    parser.add_argument("--tag", default=get("FAVE_IMAGE_TAG", "latest"), help="default: latest")
    parser.add_argument("--debian-image", default=Target().debian_image, help="what the base image is made from")
    parser.add_argument("--index", default=get("PIP_INDEX_URL", ""), help="package index for pip, while building")
    parser.add_argument("--push", action="store_true", help="push them afterwards")
    arguments = parser.parse_args()
    unknown = [name for name in arguments.groups if name not in (*GROUPS, CLIENT)]
    if unknown:
        parser.error(f"unknown group {', '.join(unknown)} (known: {', '.join([*GROUPS, CLIENT])})")
    target = Target(arguments.prefix, arguments.tag, arguments.debian_image, arguments.index)
    groups = [name for name in arguments.groups or GROUPS if name != CLIENT]
    built = build(target, groups, _say) if groups else []
    built += [build_client(target, _say)] if CLIENT in arguments.groups else []
    for image in [*([target.name(BASE)] if groups else []), *built]:
        size_bytes = docker(["image", "inspect", "--format", "{{.Size}}", image], f"{image} is not there")
        print(f"{image:48}{int(size_bytes) / 1e6:8.0f} MB")
    for image in built if arguments.push else []:
        docker(["push", image], f"{image} was not pushed")
    return 0


def _say(text: str) -> None:
    print(text, flush=True)


if __name__ == "__main__":
    sys.exit(run_door(main))
