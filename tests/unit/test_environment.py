"""The environment as a door: strict readers, what children get of it, what the object store's client takes from it."""

import io
import os
import sys

import pytest

from fave import environment
from fave.cli import run_door
from fave.endpoints import credential, find
from fave.environment import address, count, flag, for_doors, for_measured, seconds
from fave.errors import AssetError, ConfigError
from fave.programs import cache_dir, ffmpeg, prometheus
from fave.storage import Store
from functions.host.settings import Limits
from tests.support.hostile import ENVIRONMENT

pytestmark = pytest.mark.unit

KEYS = {"endpoint_url": "http://127.0.0.1:8333", "access_key": "a", "secret_key": "s", "bucket": "fave-artifacts"}


@pytest.fixture
def hostile(monkeypatch):
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)


@pytest.mark.parametrize(
    "text", ["abc", "-1", "0", "1.5", "1e9", "nan", "inf", " 5", "5 ", "1_0", "٣", "9" * 40, "10001"]
)
def test_what_is_no_count_within_bounds_is_refused_with_variable_value_and_remedy(monkeypatch, text):
    monkeypatch.setenv("FAVE_X", text)
    with pytest.raises(ConfigError, match=r"(?s)environment FAVE_X='.*': need a whole number .*unset it") as caught:
        count("FAVE_X", 5, least=1, most=10_000)
    assert text[:20] in str(caught.value)
    assert caught.value.exit_code == 2


@pytest.mark.parametrize(("text", "value"), [("", 5), ("1", 1), ("007", 7), ("10000", 10_000)])
def test_a_count_is_read_and_its_default_stands_for_nothing(monkeypatch, text, value):
    monkeypatch.setenv("FAVE_X", text)
    assert count("FAVE_X", 5, least=1, most=10_000) == value


@pytest.mark.parametrize("text", ["yes", "true", "2", "-0", "on"])
def test_a_flag_is_0_or_1(monkeypatch, text):
    monkeypatch.setenv("FAVE_X", text)
    with pytest.raises(ConfigError, match="FAVE_X"):
        flag("FAVE_X")


@pytest.mark.parametrize("text", ["nan", "inf", "-1", "1e9", "soon", "5 s", "9" * 400, "²", "999999h"])
def test_what_is_no_time_or_longer_than_any_work_is_refused(monkeypatch, text):
    monkeypatch.setenv("exec_timeout", text)
    with pytest.raises(ConfigError, match="exec_timeout"):
        seconds("exec_timeout", 300.0)


@pytest.mark.parametrize(("text", "value"), [("2.5", 2.5), (".5", 0.5), ("7.", 7.0), ("500ms", 0.5), ("1h30m", 5400.0)])
def test_a_time_is_seconds_or_a_duration(monkeypatch, text, value):
    monkeypatch.setenv("exec_timeout", text)
    assert seconds("exec_timeout", 300.0) == value


@pytest.mark.parametrize(
    "text",
    ["nonsense", "127.0.0.1:8080", "ftp://host", "http://", "http://[", "http://h:99999", "http://h:x", "http://a b"],
)
def test_what_is_no_address_is_refused(monkeypatch, text):
    monkeypatch.setenv("GATEWAY_URL", text)
    with pytest.raises(ConfigError, match="GATEWAY_URL"):
        address("GATEWAY_URL")


def test_a_refused_address_does_not_tell_its_password(monkeypatch):
    monkeypatch.setenv("GATEWAY_URL", "ftp://user:geheim@host")
    with pytest.raises(ConfigError) as caught:
        address("GATEWAY_URL")
    assert "geheim" not in str(caught.value)


@pytest.mark.parametrize(
    ("variable", "value"),
    [("max_inflight", "-1"), ("max_inflight", "9999999"), ("exec_timeout", "x"), ("healthcheck_interval", "-5s")],
)
def test_a_replica_refuses_limits_that_are_none(monkeypatch, variable, value):
    monkeypatch.setenv(variable, value)
    with pytest.raises(ConfigError, match=variable):
        Limits.from_environment()


@pytest.mark.parametrize(
    ("variable", "value"), [("FAVE_MAX_INPUT_BYTES", "abc"), ("FAVE_SHIP_LOGS", "often"), ("FAVE_LAZY", "perhaps")]
)
def test_settings_that_every_replica_would_stumble_over_are_refused_beforehand(monkeypatch, variable, value):
    monkeypatch.setenv(variable, value)
    with pytest.raises(ConfigError, match=variable):
        environment.check_function_settings()


def test_services_and_replicas_get_nothing_of_the_account_that_is_not_named(hostile, monkeypatch):
    monkeypatch.setenv("ANYTHING", "at all")
    allowed = {"PATH", "HOME", "TZ", "OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE", "LC_ALL", "PYTHONUTF8", "XDG_CACHE_HOME"}
    found = for_measured(HOME="/its/own")
    assert set(found) <= allowed
    assert (found["LC_ALL"], found["HOME"]) == ("C.UTF-8", "/its/own")
    assert found["PATH"].split(":")[0] == os.path.dirname(sys.executable)


def test_doors_get_the_account_without_what_bends_interpreters_and_tools(hostile, monkeypatch):
    monkeypatch.setenv("FAVE_SHIP_LOGS", "10s")
    found = for_doors(EXTRA="1")
    bending = ("PYTHONPATH", "PYTHONWARNINGS", "LOCUST_USERS", "MPLBACKEND", "GIT_DIR")
    assert [name for name in bending if name in found] == []
    assert (found["LC_ALL"], found["PYTHONUTF8"], found["FAVE_SHIP_LOGS"], found["EXTRA"]) == (
        "C.UTF-8",
        "1",
        "10s",
        "1",
    )
    # Package clients behind `python -m assets` need them.
    assert found["HTTPS_PROXY"] == ENVIRONMENT["HTTPS_PROXY"]


def credentials_of(store):
    found = store.client._request_signer._credentials
    return found.access_key, found.secret_key, found.token


def test_with_keys_the_client_takes_nothing_from_the_account(hostile):
    store = Store(**KEYS)
    assert store.client.meta.endpoint_url == KEYS["endpoint_url"]
    assert credentials_of(store) == ("a", "s", None)
    assert store.client.meta.region_name == "us-east-1"
    assert store.client._endpoint.http_session._proxy_config.proxy_url_for(KEYS["endpoint_url"]) is None


def test_with_keys_and_no_address_the_store_is_aws_own_whatever_the_account_redirects(hostile):
    store = Store(**{**KEYS, "endpoint_url": ""})
    assert store.client.meta.endpoint_url == "https://s3.us-east-1.amazonaws.com"


def test_a_store_elsewhere_is_reached_by_the_accounts_proxy_and_certificates(hostile):
    store = Store(**{**KEYS, "endpoint_url": "https://minio.example"})
    session = store.client._endpoint.http_session
    assert session._proxy_config.proxy_url_for("https://minio.example") == "http://127.0.0.1:9"
    assert session._verify == "/nonexistent.pem"


def test_temporary_keys_bring_their_token(monkeypatch):
    monkeypatch.setenv("S3_ENDPOINT_URL", KEYS["endpoint_url"])
    for name, value in (("ACCESS_KEY_ID", "a"), ("SECRET_ACCESS_KEY", "s"), ("SESSION_TOKEN", "t")):
        monkeypatch.setenv(f"AWS_{name}", value)
    assert credentials_of(Store.from_environment()) == ("a", "s", "t")


def test_keys_from_secrets_do_not_take_a_token_from_the_environment(monkeypatch, tmp_path):
    monkeypatch.setenv("S3_ENDPOINT_URL", KEYS["endpoint_url"])
    monkeypatch.setenv("AWS_SESSION_TOKEN", "of-other-keys")
    monkeypatch.setenv("secret_mount_path", str(tmp_path))
    for variable in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(variable, raising=False)
        (tmp_path / variable.lower().replace("_", "-")).write_text("from-secret\n", encoding="utf-8")
    assert credentials_of(Store.from_environment()) == ("from-secret", "from-secret", None)
    (tmp_path / "aws-session-token").write_text("its-own", encoding="utf-8")
    assert credentials_of(Store.from_environment()) == ("from-secret", "from-secret", "its-own")


def test_without_keys_boto3_looks_for_an_identity_and_an_absent_profile_is_a_clear_message(hostile):
    with pytest.raises(ConfigError, match=r"(?s)profile \(nobody\).*AWS_PROFILE"):
        Store(**{**KEYS, "access_key": "", "secret_key": ""})


@pytest.mark.parametrize(("lacks", "variable"), [("access_key", "AWS_ACCESS_KEY_ID"), ("secret_key", "AWS_SECRET")])
def test_one_key_without_the_other_is_refused(lacks, variable):
    with pytest.raises(ConfigError, match=variable):
        Store(**{**KEYS, lacks: ""})


def test_a_region_that_is_none_is_refused(monkeypatch):
    monkeypatch.setenv("AWS_REGION", "the moon")
    with pytest.raises(ConfigError, match="AWS_REGION"):
        Store(**KEYS)


def test_a_secret_or_password_file_that_is_no_text_is_refused(monkeypatch, tmp_path):
    monkeypatch.delenv("AWS_ACCESS_KEY_ID", raising=False)
    monkeypatch.setenv("secret_mount_path", str(tmp_path))
    (tmp_path / "aws-access-key-id").write_bytes(b"\x89PNG\xff")
    with pytest.raises(ConfigError, match="aws-access-key-id"):
        credential("AWS_ACCESS_KEY_ID")
    monkeypatch.setenv("GATEWAY_PASSWORD_FILE", str(tmp_path / "aws-access-key-id"))
    for name in ("GATEWAY_URL", "PROMETHEUS_URL", "S3_ENDPOINT_URL"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    with pytest.raises(ConfigError, match="GATEWAY_PASSWORD_FILE"):
        find(tmp_path)


@pytest.mark.parametrize(("variable", "value"), [("XDG_CACHE_HOME", "relative/cache"), ("HOME", "relative")])
def test_a_cache_that_would_be_another_one_in_each_folder_is_refused(monkeypatch, variable, value):
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv(variable, value)
    with pytest.raises(ConfigError, match="XDG_CACHE_HOME"):
        cache_dir()


@pytest.mark.parametrize(("variable", "find_it"), [("FAVE_FFMPEG", ffmpeg), ("FAVE_PROMETHEUS", prometheus)])
def test_a_program_that_is_none_is_refused(monkeypatch, variable, find_it):
    monkeypatch.setenv(variable, "/dev/null")
    with pytest.raises(AssetError, match=variable):
        find_it()


def through_the_door(monkeypatch, main, encoding="ascii"):
    """(exit code, what was printed, what was complained), in a locale of that encoding."""
    streams = {name: io.TextIOWrapper(io.BytesIO(), encoding=encoding) for name in ("stdout", "stderr")}
    for name, stream in streams.items():
        monkeypatch.setattr(sys, name, stream)
    code = run_door(main)
    said = []
    for stream in streams.values():
        stream.flush()
        said.append(stream.buffer.getvalue().decode(encoding))
    return code, *said


def test_any_letter_can_be_printed_in_any_locale(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["door"])
    code, out, _ = through_the_door(monkeypatch, lambda: sys.stdout.write("✓ “ü” \udcff\n") * 0)
    assert (code, out) == (0, "\\u2713 \\u201c\\xfc\\u201d \\udcff\n")


def test_an_argument_that_is_no_text_is_refused_before_anything_is_done(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["door", os.fsdecode(b"a\xff")])
    code, out, complained = through_the_door(monkeypatch, lambda: sys.stdout.write("done") * 0)
    assert (code, out) == (2, "")
    assert "is no text in UTF-8" in complained


def test_a_huge_argument_is_not_repeated_as_a_whole(monkeypatch):
    def main():
        raise ConfigError("x" * 100_000)

    monkeypatch.setattr(sys, "argv", ["door"])
    code, _, complained = through_the_door(monkeypatch, main)
    assert code == 2
    assert len(complained) < 5000


def test_what_a_door_writes_is_never_writable_by_others(monkeypatch, tmp_path):
    monkeypatch.setattr(sys, "argv", ["door"])
    before = os.umask(0o000)
    try:
        through_the_door(monkeypatch, lambda: (tmp_path / "file").touch() or 0)
        assert (tmp_path / "file").stat().st_mode & 0o777 == 0o644
        os.umask(0o077)
        through_the_door(monkeypatch, lambda: (tmp_path / "private").touch() or 0)
        assert (tmp_path / "private").stat().st_mode & 0o777 == 0o600
    finally:
        os.umask(before)
