import msgspec
import pytest

from fave.endpoints import Credentials, PublicEndpoints, find
from fave.environment import shown
from fave.errors import ConfigError

pytestmark = pytest.mark.unit

VARIABLES = (
    *("GATEWAY_URL", "GATEWAY_USER", "GATEWAY_PASSWORD", "GATEWAY_PASSWORD_FILE", "PROMETHEUS_URL"),
    *("S3_ENDPOINT_URL", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "FAVE_BUCKET"),
)


@pytest.fixture
def state(tmp_path, monkeypatch):
    """A folder in which an embedded platform has published itself, and an environment that says nothing."""
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    public = PublicEndpoints(
        pid=1,
        process_started_at_s=0,
        gateway_url="http://local",
        metrics_url="http://m",
        prometheus_url="http://p",
        s3_endpoint_url="http://s",
        bucket="b",
    )
    secret = Credentials(gateway_user="admin", gateway_password="local-secret", access_key="a", secret_key="s")
    (tmp_path / "endpoints.json").write_bytes(msgspec.json.encode(public))
    (tmp_path / "credentials.json").write_bytes(msgspec.json.encode(secret))
    return tmp_path


def test_the_embedded_platform_is_found(state):
    found = find(state)
    assert (found.gateway_url, found.gateway_password, found.embedded) == ("http://local", "local-secret", True)


def test_the_environment_outweighs_what_was_published(state, monkeypatch):
    monkeypatch.setenv("PROMETHEUS_URL", "http://other")
    assert find(state).prometheus_url == "http://other"


def test_a_foreign_gateway_gets_nothing_of_the_local_platform(state, monkeypatch, tmp_path):
    monkeypatch.setenv("GATEWAY_URL", "https://remote")
    with pytest.raises(ConfigError, match="PROMETHEUS_URL, S3_ENDPOINT_URL"):
        find(state)
    password = tmp_path / "password"
    password.write_text("remote-secret\n")
    for name, value in (
        ("PROMETHEUS_URL", "http://rp"),
        ("S3_ENDPOINT_URL", "http://rs"),
        ("GATEWAY_PASSWORD_FILE", str(password)),
    ):
        monkeypatch.setenv(name, value)
    found = find(state)
    assert (found.gateway_password, found.access_key, found.embedded) == ("remote-secret", "", False)


def test_an_accounts_own_keys_say_nothing_to_the_embedded_platform(state, monkeypatch):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "FAVE_BUCKET", "GATEWAY_PASSWORD"):
        monkeypatch.setenv(name, "of-other-purpose")
    found = find(state)
    assert (found.access_key, found.secret_key, found.session_token, found.bucket) == ("a", "s", "", "b")
    assert found.gateway_password == "local-secret"
    monkeypatch.setenv("S3_ENDPOINT_URL", "http://elsewhere")
    found = find(state)
    assert {found.access_key, found.secret_key, found.session_token, found.bucket} == {"of-other-purpose"}
    assert found.gateway_password == "local-secret", "the gateway is still the embedded one"


def test_a_child_that_is_told_the_whole_platform_finds_the_same(state, monkeypatch, tmp_path):
    told = find(state)
    for name, value in told.environment().items():
        monkeypatch.setenv(name, value)
    assert find(state) == told
    assert find(tmp_path / "nowhere").environment() == told.environment()


@pytest.mark.parametrize("content", [b"", b"[]", b"{}", b'"\xff"', b"\x89PNG\r\n"])
def test_an_endpoints_file_that_is_none_counts_for_nothing(state, content):
    (state / "endpoints.json").write_bytes(content)
    with pytest.raises(ConfigError, match="no platform"):
        find(state)


def test_without_any_platform_the_message_says_what_to_do(state, tmp_path):
    with pytest.raises(ConfigError, match="make up"):
        find(tmp_path / "nowhere")


@pytest.mark.parametrize("password", ["secret", "se@cret", "s:e@c@ret", "se%2Fcret"])
def test_an_address_is_shown_without_its_password(password):
    assert shown(f"http://user:{password}@host:9090/a/b@c") == "http://host:9090/a/b@c"
    assert shown("http://host:9090/a@b") == "http://host:9090/a@b"
