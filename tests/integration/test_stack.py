"""The stack file with a regime in it: valid for faas-cli, and what the gateway is told is what it has."""

from __future__ import annotations

import json
import subprocess
import sys

import msgspec
import pytest
import yaml

from fave.errors import ConfigError
from fave.settings import ROOT
from fave.storage import Store
from fave.wire.openfaas import FunctionSpec
from platforms import stack
from regimes.model import names, resolve
from tests.support.videosearcher import FUNCTIONS, WORK

pytestmark = pytest.mark.integration

FUNCTIONS = FUNCTIONS
# What faas-cli knows of a function (its stack schema); anything else it would ignore without a word.
KNOWN = {
    *("lang", "handler", "image", "skip_build", "environment", "secrets", "labels", "annotations", "limits"),
    *("requests", "readonly_root_filesystem", "fprocess", "constraints", "namespace", "build_args", "build_options"),
}


def spec_of(entry, function):
    """As faas-cli makes a deployment of an entry."""
    return FunctionSpec(
        service=function,
        image=entry["image"],
        env_vars=entry["environment"],
        secrets=tuple(entry["secrets"]),
        labels=entry["labels"],
        annotations=entry["annotations"],
        limits=entry["limits"],
        requests=entry["requests"],
        read_only_root_filesystem=entry["readonly_root_filesystem"],
    )


@pytest.mark.parametrize("regime", names())
def test_a_rendered_stack_is_complete_and_has_only_keys_that_faas_cli_knows(regime):
    done = subprocess.run(
        [sys.executable, "-m", "regimes", "stack", regime], cwd=ROOT, capture_output=True, text=True, check=True
    )
    rendered = yaml.safe_load(done.stdout)
    assert rendered["provider"]["name"] == "openfaas"
    assert sorted(rendered["functions"]) == sorted(FUNCTIONS)
    settings = resolve(regime, FUNCTIONS)
    for name, entry in rendered["functions"].items():
        assert set(entry) <= KNOWN
        assert entry["image"] == f"{name}:latest"
        lowest = settings[name].min_replicas
        assert entry["labels"]["com.openfaas.scale.min"] == str(max(1, lowest))
        assert ("com.openfaas.scale.zero" in entry["labels"]) == (lowest == 0)
        assert entry["limits"]["memory"] == f"{settings[name].memory_limit_mb}Mi"
        assert entry["environment"]["exec_timeout"] == "300s"
        assert entry["environment"]["S3_ENDPOINT_URL"]
        assert all(isinstance(value, str) for part in ("environment", "labels") for value in entry[part].values())
    assert "SECRET" not in done.stdout.upper().replace("SECRETS", "").replace("AWS-SECRET-ACCESS-KEY", "")


def test_variables_are_filled_in_as_faas_cli_does(tmp_path):
    path = tmp_path / "stack.yml"
    path.write_text('functions:\n  f:\n    image: "${PREFIX:-}f:${TAG:-latest}"\n    handler: ${HANDLER}\n')
    assert stack.load(path, {})["functions"]["f"] == {"image": "f:latest", "handler": None}
    filled = stack.load(path, {"PREFIX": "r/", "TAG": "1", "HANDLER": "./f"})
    assert filled["functions"]["f"] == {"image": "r/f:1", "handler": "./f"}


def test_a_file_that_is_no_stack_is_refused(tmp_path):
    path = tmp_path / "stack.yml"
    for text, said in (("- a list", "is a list"), ("version: 1.0", "a stack file has `functions`")):
        path.write_text(text)
        with pytest.raises(ConfigError, match=said):
            stack.load(path, {})


def test_a_rendered_stack_round_trips_through_the_gateways_rest(platform):
    """Deployed as faas-cli would, read back as the gateway has it, all regimes one over the other."""
    for secret in ("aws-access-key-id", "aws-secret-access-key"):
        platform.gateway.put_secret(secret, "x")
    try:
        for regime in names():
            # Nothing needs to start for this.
            settings = resolve(regime, FUNCTIONS)
            rendered = yaml.safe_load(stack.render(WORK, settings, regime, stack.load()))
            for name, entry in rendered["functions"].items():
                entry["labels"] |= {"com.openfaas.scale.min": "1", "com.openfaas.scale.zero": "true"}
                wanted = spec_of(entry, name)
                platform.gateway.deploy(wanted)
                there = platform.gateway.function(name)
                assert there.labels.pop("faas_function") == name
                for field in ("image", "labels", "annotations", "env_vars", "secrets", "limits", "requests"):
                    assert getattr(there, field) == getattr(wanted, field), f"{regime}: {name}: {field}"
                assert there.read_only_root_filesystem is True
    finally:
        for name in FUNCTIONS:
            platform.gateway.delete(name)
        for secret in ("aws-access-key-id", "aws-secret-access-key"):
            platform.gateway.delete_secret(secret)


def test_a_function_reaches_the_object_store_with_credentials_from_its_secrets(platform):
    """As on a cluster: nothing in the environment, two files."""
    endpoints = platform.endpoints
    platform.gateway.put_secret("aws-access-key-id", endpoints.access_key)
    platform.gateway.put_secret("aws-secret-access-key", endpoints.secret_key)
    settings = resolve("cold", WORK.some(["stage-explainer"]))
    spec = stack.spec(WORK, "stage-explainer", settings["stage-explainer"], "cold", stack.load())
    address = {"S3_ENDPOINT_URL": endpoints.s3_endpoint_url, "AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": ""}
    ranking = {
        "query": "q",
        "clips": [{"clip": "clip-000", "score": 0, "seen_score": 0, "said_score": 0, "similarity": 0, "start_s": 0,
                   "end_s": 1, "labels": {}, "words": [], "objects": {}, "text": "hello"}],
    }  # fmt: skip
    uri = platform.store.uri("requests/by-secret/in/ranking.json")
    platform.store.put(uri, json.dumps(ranking).encode())
    order = {
        "request_id": "by-secret",
        "stage": "stage-explainer",
        "input_uris": [uri],
        "output_uri": platform.store.uri("requests/by-secret/out/"),
    }
    try:
        platform.gateway.deploy(msgspec.structs.replace(spec, env_vars=spec.env_vars | address))
        reply = platform.caller.invoke("stage-explainer", json.dumps(order).encode())
        assert reply.status_code == 200, reply.text
        platform.gateway.put_secret("aws-secret-access-key", "wrong")
        platform.gateway.scale("stage-explainer", 0)
        reply = platform.caller.invoke("stage-explainer", json.dumps(order).encode())
        assert (reply.status_code, reply.json()["error"]["slug"]) == (403, "forbidden")
    finally:
        platform.gateway.delete("stage-explainer")
        platform.gateway.delete_secret("aws-access-key-id")
        platform.gateway.delete_secret("aws-secret-access-key")


def test_a_functions_own_credentials_open_objects_and_nothing_else(platform, deploy):
    """On the embedded platform each function has an identity of its own in the object store."""
    name = deploy("identity", low=1)
    platform.caller.invoke(name, b"")
    (process,) = platform.replica_processes(name)
    environment = process.environ()
    store = Store(
        endpoint_url=environment["S3_ENDPOINT_URL"],
        access_key=environment["AWS_ACCESS_KEY_ID"],
        secret_key=environment["AWS_SECRET_ACCESS_KEY"],
        bucket=environment["FAVE_BUCKET"],
    )
    assert environment["AWS_ACCESS_KEY_ID"] != platform.endpoints.access_key
    uri = store.uri("requests/identity/x")
    store.put(uri, b"1")
    assert store.get(uri) == b"1"
    with pytest.raises(store.client.exceptions.ClientError):
        store.client.create_bucket(Bucket="mine-alone")
