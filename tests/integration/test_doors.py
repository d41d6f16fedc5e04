"""Every door ends with a message and a documented exit code, whatever it is given, and never with a traceback."""

import contextlib
import importlib
import io
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from fave import errors
from fave.campaign.rundir import write_json, write_jsonl
from fave.campaign.validity import Verdict
from fave.cli import run_door
from fave.settings import ROOT
from fave.wire.records import ArrivalRow
from tests.support import campaigns

pytestmark = [pytest.mark.integration, pytest.mark.timeout(240)]

CODES = {1} | {value for name, value in vars(errors).items() if name.startswith("EXIT_")}
# Nothing answers there: what would start or ask a platform ends at once.
NOWHERE = dict.fromkeys(("GATEWAY_URL", "PROMETHEUS_URL", "S3_ENDPOINT_URL"), "http://127.0.0.1:9")
WORDS = (
    *(
        "",
        " ",
        "a b",
        "'\"",
        "$(touch executed)",
        "`touch executed`",
        "; touch executed",
        "a\nb",
        "✓ü",
        "--",
        "%s",
        "{}",
    ),
    *("-1", "0", "nan", "inf", "-inf", "1e9", "99999999999999999999", "1_0", "0x10", "٣"),
    *(os.fsdecode(b"\xff\xfe"), "x" * 100_000, "[" * 100_000, "..", "/", "~", "/dev/null", "/proc/self/mem"),
    *(str(ROOT / "README.md"), str(ROOT / "tests/data/german.ogg")),
    *('{"a": 1}', '{"a": {"b": NaN}}', "[1]", "null", "a/../../b", "s3://", "http://["),
)
TINY = str(ROOT / "tests" / "data" / "tiny.yml")
# @ is the hostile word. FOLDER: an empty one. TINY: an experiment that is planned quickly.
LINES = {
    "analysis": (
        *(
            "@",
            "report @",
            "report runs/example --prices @",
            "compare @ example",
            "compare example @",
            "index FOLDER/none/@",
        ),
        *("publish @ FOLDER/to", "calibrate --campaigns @", "distortion @"),
    ),
    "assets": ("@", "short @ --quiet"),
    "experiments": (
        *("@", "run @", "plan @", "plan TINY --sd @", "plan TINY --pilot @", "plan TINY --runs @", "resume @"),
        *("ui --regime @", "ui --target @", "ui --port @", "ui --workload @", "plan mine --workload @"),
        *(f"plan mine --workload examples/hello {option} @" for option in ("--trace", "--regimes", "--duration")),
    ),
    "search": (
        *("@", "smoke --regime @", "invoke @ query", "invoke short @"),
        *("invoke short q --config @", "invoke short q --request-id @", "invoke short q --regime @"),
    ),
    "functions.host": ("@",),
    "functions.images": ("@", "light @"),
    "local": ("@", "status --state @", "down --state @", "--state @ status"),
    "local.gateway": ("--state FOLDER --port @ --metrics-port -1", "--state @ --port -1"),
    "regimes": (
        "@",
        "show @",
        "stack @",
        "apply @",
        "stack cold --target @",
        "show cold --target @",
        "show cold --workload @",
    ),
    "workloads": ("@", "init FOLDER/none/x.yml --run @", "init @ --url @", "init FOLDER/none/x.yml --image @"),
}


@pytest.fixture
def nowhere(monkeypatch, tmp_path):
    """No platform, no password, an empty folder to work in."""
    for name, value in NOWHERE.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("GATEWAY_PASSWORD", "x")
    folder = tmp_path / "work"
    folder.mkdir()
    monkeypatch.chdir(folder)
    before = signal.getsignal(signal.SIGTERM)
    yield folder
    signal.signal(signal.SIGTERM, before)


def through(door, arguments):
    """(exit code, what was printed and complained) of a door within this process."""
    main = importlib.import_module(f"{door}.__main__").main
    out = io.TextIOWrapper(io.BytesIO(), encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
        patch.setattr(sys, "argv", [door, *arguments])
        try:
            code = run_door(main)
        except SystemExit as end:  # argparse's
            code = end.code
    out.flush()
    return code, out.buffer.getvalue().decode()


def hostile_lines():
    return [(door, line) for door, lines in LINES.items() for line in lines]


@pytest.mark.parametrize(("door", "line"), hostile_lines(), ids=lambda part: part)
def test_a_hostile_word_ends_with_a_message_and_leaves_nothing(nowhere, door, line):
    for word in WORDS:
        arguments = [
            part.replace("FOLDER", str(nowhere)).replace("TINY", TINY).replace("@", word) for part in line.split(" ")
        ]
        code, said = through(door, arguments)
        assert code in CODES, (word[:50], code)
        assert said.strip(), (word[:50], "it said nothing")
        assert "Traceback" not in said, (word[:50], said[-2000:])
        assert not os.listdir(nowhere), (word[:50], os.listdir(nowhere))


def test_there_is_a_hostile_line_for_every_door():
    doors = {str(path.parent.relative_to(ROOT)).replace("/", ".") for path in ROOT.glob("[a-z]*/**/__main__.py")}
    assert doors == set(LINES)


@pytest.mark.parametrize(
    ("variable", "value", "door", "line", "code"),
    [
        ("FAVE_MAX_INPUT_BYTES", "abc", "local", "serve --state FOLDER", 2),
        ("FAVE_SHIP_LOGS", "often", "local", "serve --state FOLDER", 2),
        ("FAVE_LAZY", "maybe", "functions.host", "tests.handlers.echo", 2),
        ("max_inflight", "-1", "functions.host", "tests.handlers.echo", 2),
        ("exec_timeout", "9" * 400, "functions.host", "tests.handlers.echo", 2),
        ("FAVE_MEMORY_LIMIT_MB", "1e9", "functions.host", "tests.handlers.echo", 2),
        ("port", "99999", "functions.host", "tests.handlers.echo", 2),
        ("GATEWAY_URL", "nonsense", "search", "smoke", 2),
        ("GATEWAY_URL", "http://[", "regimes", "apply cold", 2),
        ("PROMETHEUS_URL", "nonsense", "search", "invoke short q", 2),
        ("S3_ENDPOINT_URL", "nonsense", "assets", "short --upload", 2),
        ("AWS_ACCESS_KEY_ID", "alone", "assets", "short --upload", 2),
        ("AWS_REGION", "the moon", "assets", "short --upload", 2),
        ("FAVE_BUCKET", "a/b", "assets", "short --upload", 2),
        ("GATEWAY_PASSWORD", "", "local.gateway", "--state FOLDER", 2),
        ("FAVE_FUNCTION_ENV", "{", "local.gateway", "--state FOLDER", 2),
        ("FAVE_OWN_ENV", "[1]", "local.gateway", "--state FOLDER", 2),
        ("XDG_CACHE_HOME", "here", "assets", "short", 2),
        ("XDG_CACHE_HOME", "/dev/null", "assets", "short", 3),
        ("FAVE_FFMPEG", "/dev/null", "assets", "short", 3),
    ],
)
def test_a_variable_that_cannot_be_used_is_named(nowhere, monkeypatch, variable, value, door, line, code):
    monkeypatch.setenv(variable, value)
    found, said = through(door, line.replace("FOLDER", str(nowhere)).split())
    assert found == code, said
    # A path is named by itself.
    assert variable in said or value in said
    assert "Traceback" not in said


@pytest.mark.parametrize(
    ("door", "arguments"),
    [
        ("analysis", ["report", "no such run"]),
        ("assets", ["✓"]),
        ("search", ["invoke", "no such file", "q"]),
        ("functions.host", ["no.such.module"]),
        ("functions.images", ["no such group"]),
        ("local", ["status", "--state", "/nonexistent"]),
        ("local.gateway", ["--state", "/nonexistent", "--port", "x"]),
        ("regimes", ["show", b"\xff"]),
    ],
)
def test_a_process_of_each_door_says_what_is_wrong_in_a_locale_without_letters(door, arguments):
    bare = {"PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "LC_ALL": "POSIX", "PYTHONIOENCODING": "ascii"}
    command = [sys.executable, "-m", door, *arguments]
    done = subprocess.run(command, cwd=ROOT, env={**os.environ, **bare}, capture_output=True, timeout=60, check=False)
    assert done.returncode in CODES - {0, 1}, done.stderr
    assert b"error: " in done.stderr
    assert b"Traceback" not in done.stdout + done.stderr


@pytest.mark.parametrize(("stdout", "code"), [("/dev/full", 1), ("", 0)], ids=["full", "closed"])
def test_output_that_cannot_be_written_is_a_message(stdout, code):
    """A closed one is nobody's mistake."""
    redirected = f'exec "$0" -m analysis schema {">" + stdout if stdout else ">&-"}'
    command = ["bash", "-c", redirected, sys.executable]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == code, done.stderr
    assert ("No space left" in done.stderr) == (code == 1)
    assert "Exception" not in done.stderr
    assert "Traceback" not in done.stderr


def test_a_reader_that_closes_our_output_is_no_error():
    pipeline = '"$0" -m analysis schema | head -1 >/dev/null; exit ${PIPESTATUS[0]}'
    command = ["bash", "-c", pipeline, sys.executable]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")


# Make.

NASTY = "a \"b\" 'c' $(touch executed) $(shell touch executed) `touch executed` $HOME ; touch executed # % \\ \nnext ✓"


_VARIABLES = (
    *(("bench", "EXPERIMENT"), ("plan", "EXPERIMENT"), ("resume", "RUN"), ("report", "RUN"), ("report", "PRICES")),
    *(("compare", "A"), ("compare", "B"), ("calibrate", "CAMPAIGNS"), ("stack", "REGIME"), ("invoke", "VIDEO")),
    *(("invoke", "OPEN"), ("invoke", "INVOKE_OPTIONS"), ("images", "IMAGE_OPTIONS"), ("plan", "VENV")),
)


def make(target, *arguments, **environment):
    """A target on the environment that runs the tests, taken for installed."""
    venv = Path(sys.executable).parent.parent
    old = [part for name in (".installed", ".installed-dev", ".ready") for part in ("-o", str(venv / name))]
    command = ["make", "-C", str(ROOT), *old, target, f"VENV={venv}", *arguments]
    env = {**os.environ, **NOWHERE, **environment}
    return subprocess.run(command, env=env, capture_output=True, timeout=60, check=False)


@pytest.mark.parametrize(
    ("target", "variable", "way"),
    [
        *((target, variable, "command line") for target, variable in _VARIABLES),
        *(("plan", "EXPERIMENT", "environment"), ("invoke", "INVOKE_OPTIONS", "environment")),
    ],
)
def test_make_hands_a_variable_on_as_it_is_and_executes_nothing_of_it(target, variable, way):
    others = ["A=example", "B=example"] if target == "compare" else []
    others = [other for other in others if not other.startswith(f"{variable}=")]
    if way == "environment":
        done = make(target, *others, **{variable: NASTY})
    else:
        done = make(target, *others, f"{variable}={NASTY}")
    said = (done.stdout + done.stderr).decode()
    assert done.returncode == 2, said
    assert "rror: " in said or "VENV=" in said
    assert "Traceback" not in said
    assert not (ROOT / "executed").exists()
    if variable in ("EXPERIMENT", "RUN", "A", "B", "REGIME", "VIDEO", "OPEN"):
        assert NASTY in said or repr(NASTY) in said, "the word did not arrive whole"


def test_make_splits_options_as_a_shell_does_and_refuses_a_quote_without_an_end():
    done = make("invoke", "INVOKE_OPTIONS=--regime 'no such regime'")
    assert b"unknown regime 'no such regime'" in done.stderr
    assert b"a quote has no end" in make("invoke", "INVOKE_OPTIONS=--regime 'no such").stderr


# Run folders.


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory):
    """Of a single run: when that cannot be read there is nothing to report, which is quickly done."""
    folder = tmp_path_factory.mktemp("runs") / "run"
    campaigns.written(folder, campaigns.experiment(), campaigns.with_cold({(0, "a"): 10}))
    assert through("analysis", ["report", str(folder)])[0] == errors.EXIT_INVALID_RUN
    assert (folder / "results.json").exists()
    return folder


def spots(value, depth, at=()):
    """Every place in plain data down to `depth`; of a list its first."""
    yield at
    inner = value.items() if isinstance(value, dict) else enumerate(value[:1]) if isinstance(value, list) else ()
    for key, item in inner if depth else ():
        yield from spots(item, depth - 1, (*at, key))


def put(value, at, new):
    if not at:
        return new
    copy = value.copy()
    copy[at[0]] = put(value[at[0]], at[1:], new)
    return copy


@contextlib.contextmanager
def replaced(path, content):
    before = path.read_bytes() if path.exists() else None
    path.write_bytes(content)
    try:
        yield
    finally:
        path.unlink() if before is None else path.write_bytes(before)


@pytest.mark.parametrize(
    ("name", "depth", "lines"),
    [
        ("campaign.json", 4, ("report @", "compare @ @", "resume @")),
        ("cells/00_l_a_1/cell.json", 3, ("report @",)),
        ("cells/00_l_a_1/verdict.json", 3, ("report @",)),
        ("results.json", 2, ("plan TINY --pilot @", "index ABOVE")),
    ],
)
def test_a_run_folder_of_another_shape_is_refused_or_reported(run_folder, tmp_path, monkeypatch, name, depth, lines):
    monkeypatch.setattr("analysis.__main__.RUNS", tmp_path)  # where comparisons go
    path = run_folder / name
    facts = json.loads(path.read_bytes())
    for at in spots(facts, depth):
        for new in (None, -1, "x", {"a": 1}):
            refused = False
            with replaced(path, json.dumps(put(facts, at, new)).encode()):
                for line in lines:
                    if refused and not line.startswith("resume"):
                        continue
                    door = "experiments" if line.startswith(("plan", "resume")) else "analysis"
                    arguments = (
                        line.replace("@", str(run_folder))
                        .replace("ABOVE", str(run_folder.parent))
                        .replace("TINY", TINY)
                        .split()
                    )
                    code, said = through(door, arguments)
                    assert code in CODES, (line, at, new)
                    assert "Traceback" not in said
                    refused = code != 0


@pytest.mark.parametrize("content", [b"", b"{", b'"\xff"', b"[" * 200_000, b"\x89PNG\r\n\x1a\n", b"null", b"[1]"])
@pytest.mark.parametrize("name", ["campaign.json", "stopping.json", "cells/00_l_a_1/cell.json", "results.json"])
def test_a_run_folder_with_another_files_bytes_is_refused_or_reported(run_folder, name, content):
    with replaced(run_folder / name, content):
        for door, line in (
            ("analysis", "report @"),
            ("experiments", "resume @"),
            ("experiments", f"plan {TINY} --pilot @"),
        ):
            code, said = through(door, line.replace("@", str(run_folder)).split())
            assert code in CODES, line
            assert "Traceback" not in said


def test_a_distortion_run_of_another_shape_is_refused(tmp_path, nowhere):
    verdict = {"verdict": Verdict(valid=True, findings=())}
    write_json(tmp_path / "distortion.json", {"target": "f", "stall_s": 3.0, "scenarios": ["stall"]})
    (tmp_path / "stall").mkdir()
    (tmp_path / "stall" / "schedule.csv").write_text("k,at_us\n0,0\n", encoding="utf-8")
    rows = [ArrivalRow(k=k, request_id="r", invocation_id="i", scheduled_at_ns=1, done_at_ns=2) for k in (0, 7)]
    for loop, outcome in (("open", verdict), ("closed", {"verdict": None})):
        write_json(tmp_path / "stall" / loop / "generator.json", {"started_at_ns": 1, "outcome": outcome})
        write_jsonl(tmp_path / "stall" / loop / "arrivals-0.jsonl", rows)
    code, said = through("analysis", ["distortion", str(tmp_path)])
    assert (code, "not those of its schedule" in said) == (5, True), said
    nameless = {"gate": "g", "ok": False, "observed": None, "limit": None}
    untold = json.dumps({"started_at_ns": 1, "outcome": {"verdict": {"valid": False, "findings": [nameless]}}}).encode()
    with replaced(tmp_path / "stall" / "open" / "generator.json", untold):
        assert through("analysis", ["distortion", str(tmp_path)])[0] == 5
    for name in ("distortion.json", "stall/open/generator.json", "stall/schedule.csv", "stall/open/arrivals-0.jsonl"):
        with replaced(tmp_path / name, b'[1]\n{"a"\n'):
            code, said = through("analysis", ["distortion", str(tmp_path)])
            assert code in (2, 5), (name, said)


# Locust's options, which are the doors of locustfiles/.


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--rate", "nan"], "rate nan"),
        (["--duration=-1s"], "not a duration"),
        (["--max-in-flight", "-1"], "at least 1"),
        (["--variables", "[" * 50_000], "not JSON"),
        (["--schedule", "/dev"], "cannot be read"),
        (["--target", "stage-ffmpeg-0", "--id-prefix", "../$(touch executed)"], "--id-prefix: "),
        (["--workload", "/etc/passwd"], "/etc/passwd"),
        (["--trace", b"\xff"], "no text in UTF-8"),
        (["--timeline", "cold/steady@nan:1s"], "is not regime/load@rate:duration"),
    ],
    ids=lambda part: str(part)[:30],
)
def test_a_load_that_cannot_be_sent_is_refused_before_anything_is(nowhere, arguments, said):
    command = [sys.executable, "-m", "locust", "-f", str(ROOT / "locustfiles" / "load.py"), "--headless", "-u", "1"]
    done = subprocess.run([*command, *arguments], cwd=ROOT, capture_output=True, timeout=60, check=False)
    assert done.returncode == 2, done.stderr
    assert said in (done.stdout + done.stderr).decode()
    assert b"Traceback" not in done.stdout + done.stderr
