import msgspec
import pytest

from fave.configuration import configured
from fave.errors import StageError
from fave.wire.envelope import Envelope
from functions.stage_ffmpeg_3.config import Config as FrameConfig
from orchestrator.options import options_of

pytestmark = pytest.mark.unit


def test_the_request_overrides_the_environment_and_that_the_default():
    environment = {"CONFIG_FPS": "2", "CONFIG_MAX_FRAMES": "7"}
    assert configured(FrameConfig, {}, {}) == FrameConfig()
    assert configured(FrameConfig, {"fps": 3}, environment) == FrameConfig(fps=3, max_frames=7)


@pytest.mark.parametrize(
    ("given", "environment", "words"),
    [
        ({"fps": "2"}, {}, "fps"),
        ({"fsp": 2}, {}, "fsp"),
        ({"fps": 0}, {}, "fps"),
        ({}, {"CONFIG_FPS": "fast"}, "CONFIG_FPS='fast'"),
        ({}, {"CONFIG_MAX_FRAMES": "0"}, "CONFIG_MAX_FRAMES"),
    ],
)
def test_a_setting_that_cannot_be_used_is_named_with_its_place(given, environment, words):
    with pytest.raises(StageError) as caught:
        configured(FrameConfig, given, environment)
    assert caught.value.slug == "bad-request"
    assert words in caught.value.reason


def test_the_contracts_variable_bounds_the_fan_out(monkeypatch):
    monkeypatch.setenv("MAX_CONCURRENT_INVOCATIONS", "3")
    assert options_of({}).max_concurrent_invocations == 3
    assert options_of({"max_concurrent_invocations": 5}).max_concurrent_invocations == 5


def test_a_mapping_is_set_by_the_environment_as_json(monkeypatch):
    monkeypatch.setenv("CONFIG_STAGE_TIMEOUTS_S", '{"stage-librosa": 9}')
    assert options_of({}).timeout_s("stage-librosa") == 9
    monkeypatch.setenv("CONFIG_STAGE_TIMEOUTS_S", '{"stage-librosa": "soon"}')
    with pytest.raises(StageError, match="CONFIG_STAGE_TIMEOUTS_S"):
        options_of({})


def test_an_envelope_round_trips_with_its_versions():
    envelope = Envelope(request_id="r", stage="s", output_uri="s3://b/o/", etags={"s3://b/i": '"abc"'}, clip="clip-000")
    assert msgspec.json.decode(msgspec.json.encode(envelope), type=Envelope) == envelope
