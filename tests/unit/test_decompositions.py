"""Several stages as one function: what is called, what one call does, and what cannot be."""

from types import SimpleNamespace

import pytest

from experiments import model
from fave.errors import ConfigError, StageError
from fave.settings import decode, to_plain
from fave.wire.envelope import Envelope
from functions import stage
from functions.fused import composing
from functions.fused.kept import Kept
from tests.support.orchestration import GRAPH, VIDEO, outputs_of
from tests.support.videosearcher import WORK
from workloads.graph import Graph, Source
from workloads.workflow import Task, complete, leaving, output_of, own_tasks, runnable

pytestmark = pytest.mark.unit

THREE = {
    "sound": ("stage-ffmpeg-0", "stage-librosa", "stage-ffmpeg-1"),
    "picture": ("stage-ffmpeg-2", "stage-deepspeech", "stage-ffmpeg-3", "stage-object-detector"),
    "answer": ("stage-embedder", "stage-search", "stage-explainer"),
}
ONE = {"all": tuple(GRAPH.stages)}
# Parts that are cut at no natural place: per item and not, taking from both.
MIXED = {
    "first": ("stage-ffmpeg-0", "stage-librosa", "stage-ffmpeg-1", "stage-ffmpeg-2"),
    "last": ("stage-ffmpeg-3", "stage-object-detector", "stage-embedder", "stage-search", "stage-explainer"),
}
LATE = {"ends": ("stage-deepspeech", "stage-object-detector", "stage-embedder")}


def as_director(graph: Graph) -> list[str]:
    """All of a request, each function doing its stages as it would; the names of the calls, in their order."""
    called, done, order, ran = graph.called(), {}, [], []
    while not complete(called, done):
        tasks = runnable(called, VIDEO, done, frozenset(done))
        assert tasks, f"stuck after {order}"
        for task in tasks:
            order.append(task.name)
            if task.stage in graph.parts:
                mine = within(graph, task, ran)
                done[task.name] = tuple(leaving(graph, task.stage, mine))
            else:
                ran.append(task.name)
                done[task.name] = outputs_of(task)
    assert sorted(ran) == sorted(
        f"{node.function}/clip-00{i}" if node.per_item else node.function
        for node in graph.nodes
        for i in range(2 if node.per_item else 1)
    ), "each stage once, per clip those of each clip"
    assert output_of(graph.seen(Source("stage-search", "ranking.json")), done).endswith("stage-search/ranking.json")
    return order


def within(graph: Graph, call: Task, ran: list[str]) -> dict[str, tuple[str, ...]]:
    done: dict[str, tuple[str, ...]] = {}
    while tasks := own_tasks(graph, call.stage, call.clip, call.inputs, done):
        for task in tasks:
            wanted = {s.of for s in graph.node(task.stage).inputs}
            assert len({uri.split("/")[5] if "requests" in uri else "input" for uri in task.inputs}) == len(wanted)
            ran.append(task.name)
            done[task.name] = outputs_of(task)
    return done


@pytest.mark.parametrize(
    ("parts", "calls"),
    [
        (THREE, ["sound", "picture/clip-000", "picture/clip-001", "answer"]),
        (ONE, ["all"]),
        (MIXED, ["first", "stage-deepspeech/clip-000", "stage-deepspeech/clip-001", "last"]),
    ],
)
def test_a_decomposition_does_every_stage_once_in_fewer_calls(parts, calls):
    assert as_director(GRAPH.with_parts(parts)) == calls


def test_a_part_with_stages_on_both_sides_of_another_function_is_refused_with_what_belongs_together():
    with pytest.raises(ValueError, match="need each other's outputs"):
        GRAPH.with_parts({"odd": ("stage-ffmpeg-0", "stage-ffmpeg-1")})


def test_a_part_may_gather_what_single_calls_made_per_clip():
    assert as_director(GRAPH.with_parts(LATE))[-3:] == ["ends", "stage-search", "stage-explainer"]


@pytest.mark.parametrize(
    ("parts", "problem"),
    [
        ({"a": ("stage-search",)}, "two stages or more"),
        ({"a": ("stage-search", "nobody")}, "'nobody' is none of the stages"),
        ({"a": ("stage-search", "stage-explainer"), "b": ("stage-embedder", "stage-search")}, "stands twice"),
        ({"stage-librosa": ("stage-search", "stage-explainer")}, "the name of another function"),
    ],
)
def test_parts_that_cannot_be_are_refused(parts, problem):
    with pytest.raises(ValueError, match=problem):
        GRAPH.with_parts(parts)


def test_a_clip_that_the_director_left_out_does_not_stop_a_function_that_gathers():
    """Its outputs are not among the inputs, though the list of clips has it."""
    graph = GRAPH.with_parts(THREE)
    done = {name: outputs_of(Task(stage=name)) for name in ("stage-librosa", "stage-ffmpeg-1")}
    there = [Task(stage=name, clip="clip-001") for name in ("stage-deepspeech", "stage-object-detector")]
    inputs = [*done["stage-librosa"], *done["stage-ffmpeg-1"], *(uri for task in there for uri in outputs_of(task))]
    (first,) = own_tasks(graph, "answer", "", inputs, {})
    assert first.stage == "stage-embedder"
    assert all("clip-000" not in uri for uri in first.inputs)


def test_frames_stay_where_they_are_and_what_others_take_is_told():
    graph = GRAPH.with_parts(THREE)
    done = {name: outputs_of(Task(stage=name.split("/")[0], clip="clip-000")) for name in
            (f"{stage}/clip-000" for stage in THREE["picture"])}  # fmt: skip
    told = leaving(graph, "picture", done)
    assert [uri.rpartition("/")[2] for uri in told] == ["transcript.json", "detections.json"]


def test_a_function_of_several_stages_may_use_what_they_may_together_and_has_one_image():
    three = WORK.composed(THREE)
    inside = {stage for stages in THREE.values() for stage in stages}
    # A stage that somebody adds is in no part, and a function by itself.
    alone = [stage for stage in WORK.graph.stages if stage not in inside]
    assert set(three.functions_of("pipeline")) == {"orchestrator", *THREE, *alone}
    limits = [WORK.functions[name].memory_limit_mb for name in THREE["sound"]]
    assert three.functions["sound"].memory_limit_mb == sum(limits)
    assert three.functions["answer"].inherits == WORK.functions["stage-explainer"].inherits
    assert three.image_of("sound") == three.image_of("answer") != three.image_of("orchestrator")
    assert "stage-object-detector" not in three.requests, "it is no function by itself there"


def test_a_workload_that_says_nothing_of_parts_is_recorded_as_before():
    from workloads.model import of_record

    plain = of_record(WORK)["graph"]
    assert "parts" not in plain
    sources = [plain["items"], *(source for node in plain["nodes"] for source in node["inputs"])]
    assert all(source.keys() == {"of", "suffix"} for source in sources)


def test_a_call_of_several_stages_has_the_time_of_all_of_them():
    from orchestrator.invoker import Invoker
    from orchestrator.options import Config

    options = Config(stage_timeout_s=10, stage_timeouts_s={"stage-librosa": 30})
    invoker = Invoker(None, None, request_id="r", owner="o", parent_id="p", options=options, config={}, parts=THREE)
    assert [invoker._timeout_s(name) for name in ("sound", "answer", "stage-librosa")] == [50, 30, 30]


DECOMPOSED = """
description: d
expected_duration: x
seed: 1
regimes: [ten, one]
aliases: {{ten: cold, one: cold}}
primary_outcome: mean_latency_s
contrasts: [[one, ten]]
decompositions: {{{}}}
loads:
  l: {{target: {}, traffic: {{model: poisson, requests: 9, duration: 9s}}, blocks: 3}}
"""


@pytest.mark.parametrize(
    ("parts", "target", "problem"),
    [
        ("one: {all: [stage-search, stage-librosa]}", "pipeline", "decompositions.one: parts: .* need each other"),
        ("two: {all: [stage-search, stage-explainer]}", "pipeline", "decompositions: 'two' is not among the regimes"),
        ("one: {all: [stage-ffmpeg-0, stage-librosa]}", "stage-ffmpeg-0", "asks stage-ffmpeg-0, which is no function"),
    ],
)
def test_a_decomposition_that_cannot_be_is_refused_before_anything_runs(tmp_path, parts, target, problem):
    (tmp_path / "e.yml").write_text(DECOMPOSED.format(parts, target))
    with pytest.raises(ConfigError, match=problem):
        model.load(str(tmp_path / "e.yml"))


def test_the_shipped_decomposition_runs_other_functions_in_each_arm():
    experiment = model.load("decomposition")
    functions = [set(experiment.policies("steady", arm)) for arm in experiment.regimes]
    added = len(WORK.graph.stages) - 10
    assert [len(each) - added for each in functions] == [11, 4, 2]
    assert all(functions[i] <= set(experiment.work_of(arm).functions) for i, arm in enumerate(experiment.regimes))
    again = decode(to_plain(experiment), model.Experiment, "campaign.json")
    assert again.decompositions == experiment.decompositions


class Objects:
    """A store in memory that counts what is read from it."""

    def __init__(self, **objects):
        self.objects, self.read = dict(objects), []

    def check_readable(self, uri):
        pass

    def get(self, uri, *, etag="", max_bytes=0):
        self.read.append(uri)
        return self.objects[uri]

    def download(self, uri, path, *, etag="", max_bytes=0):
        path.write_bytes(self.get(uri))
        return path.stat().st_size

    def put(self, uri, data, *, content_type):
        self.objects[uri] = data if isinstance(data, bytes) else data.read()
        return f"etag of {uri}"


def test_what_a_stage_wrote_the_next_one_reads_from_this_disk_and_the_store_has_it_too(tmp_path):
    store = Objects(there=b"1")
    kept = Kept(store, tmp_path)
    assert kept.get("there") == b"1"
    assert kept.put("made", b"22", content_type="x") == "etag of made"
    (tmp_path / "file").write_bytes(b"333")
    with (tmp_path / "file").open("rb") as file:
        kept.put("large", file, content_type="x")
    assert (kept.get("made"), kept.download("large", tmp_path / "again")) == (b"22", 3)
    assert store.read == ["there"]
    assert (store.objects["made"], store.objects["large"]) == (b"22", b"333")


def order(clip="", inputs=(VIDEO,), **config):
    return Envelope(
        request_id="r", stage="x", clip=clip, input_uris=tuple(inputs), output_uri="s3://b/requests/r/x/", config=config
    )


def a_job(tmp_path, envelope, store):
    job = stage.Job(envelope, store, SimpleNamespace(check=lambda: None))
    job.folder = tmp_path
    return job


def writing(*names):
    """The work of a stage that reads its inputs and writes these."""

    def work(job):
        for uri in job.envelope.inputs:
            job.read(uri)
        for name in names:
            job.write(name, name.encode(), "x")

    return work


WORKS = {
    "stage-ffmpeg-0": writing("audio.wav", "media.json"),
    "stage-librosa": writing("timestamps.json"),
    "stage-ffmpeg-1": writing("clip-000.mp4", "clip-001.mp4"),
}


def test_one_call_does_its_stages_in_turn_and_its_row_has_what_they_took_together(tmp_path):
    store, seen = Objects(**{VIDEO: b"video"}), []
    works = {name: lambda job, do=do: (seen.append(job.envelope), do(job)) for name, do in WORKS.items()}
    job = a_job(tmp_path, order(**{"stage-librosa": {"gap_s": 2}}), store)
    composing.work(job, graph=GRAPH.with_parts(THREE), part="sound", works=works)
    assert [each.stage for each in seen] == list(THREE["sound"])
    assert seen[1].config == {"gap_s": 2}
    assert seen[2].etags.keys() == set(seen[2].input_uris) - {VIDEO}, "of what it made itself it knows the version"
    assert store.read == [VIDEO, VIDEO], "what the stages made is read from the disk"
    assert [uri.rpartition("/requests/r/")[2] for uri in job.outputs] == [
        "stage-ffmpeg-0/audio.wav",
        "stage-ffmpeg-0/media.json",
        "stage-librosa/timestamps.json",
        "stage-ffmpeg-1/clip-000.mp4",
        "stage-ffmpeg-1/clip-001.mp4",
    ]
    assert job.versions().keys() == set(job.outputs) <= store.objects.keys()
    assert job.output_bytes == sum(len(uri.rpartition("/")[2]) for uri in job.outputs)
    assert job.input_bytes > 2 * len(b"video")


def test_a_stage_that_fails_is_named_and_nothing_after_it_is_done(tmp_path):
    def fail(_):
        raise StageError("no-audio", "the video has no sound track")

    works = WORKS | {"stage-librosa": fail}
    job = a_job(tmp_path, order(), Objects(**{VIDEO: b"v"}))
    with pytest.raises(StageError) as error:
        composing.work(job, graph=GRAPH.with_parts(THREE), part="sound", works=works)
    assert (error.value.slug, error.value.reason) == ("no-audio", "stage-librosa: the video has no sound track")
    assert not any("stage-ffmpeg-1" in uri for uri in job.store.objects)


def test_an_order_without_an_input_that_a_stage_needs_is_refused(tmp_path):
    job = a_job(tmp_path, order(inputs=()), Objects())
    with pytest.raises(StageError, match="inputs of stage-embedder, stage-explainer, stage-search are missing"):
        composing.work(job, graph=GRAPH.with_parts(THREE), part="answer", works={})
