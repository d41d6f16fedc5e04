"""The critical path through both fan-outs, on requests that are made up invocation by invocation."""

import numpy as np
import polars as pl
import pytest

from analysis.rows.folder import polars_schema, with_routable
from analysis.rows.path import PARTS, paths, told
from fave.wire.critical_path import critical_path
from fave.wire.records import StageRow, derive
from tests.support.orchestration import GRAPH
from tests.support.videosearcher import ORCHESTRATOR

pytestmark = pytest.mark.unit

MS = 1_000_000


def invocation(stage, sent, *, cold=0, took, clip="", request="r", attempt=1, read=10, write=5):
    """Milliseconds. 2 to the gateway, 1 to the replica, 1 to its start, work, 3 for the row, 2 back."""
    base = sent + cold
    started, worked = base + 4, base + 4 + took
    return derive(
        StageRow(
            request_id=request,
            invocation_id=f"{request}.{stage}.{clip}.{attempt}",
            attempt=attempt,
            stage=stage,
            clip=clip,
            sent_at_ns=sent * MS,
            ready_at_ns=base * MS if cold else 1,
            forwarded_at_ns=(base + 2) * MS,
            received_at_ns=(base + 3) * MS,
            started_at_ns=started * MS,
            worked_at_ns=worked * MS,
            finished_at_ns=(worked + 3) * MS,
            returned_at_ns=(worked + 5) * MS,
            storage_read_s=read / 1000,
            storage_write_s=write / 1000,
            # One millisecond of the work nobody stamped.
            compute_s=(took - read - write - 1) / 1000,
            memory_limit_mb=256,
        )
    )


OVERHEAD = 2 + 1 + 1 + 3 + 2


def request(name="r", at=1000, *, detector_cold=0, speech_cold=0):
    """Stages in a row, two clips with two branches each, the rest in a row; 4 ms of the orchestrator between."""
    rows = []

    def add(stage, sent, took, **about):
        row = invocation(stage, sent, took=took, request=name, **about)
        rows.append(row)
        return row.returned_at_ns // MS

    t = at + 10
    for stage in ("stage-ffmpeg-0", "stage-librosa", "stage-ffmpeg-1"):
        t = add(stage, t, 50) + 4
    ends = []
    for clip in ("clip-0", "clip-1"):
        cut = add("stage-ffmpeg-2", t, 50, clip=clip) + 4
        ends.append(add("stage-deepspeech", cut, 200 if clip == "clip-1" else 100, clip=clip, cold=speech_cold))
        frames = add("stage-ffmpeg-3", cut, 60, clip=clip) + 4
        ends.append(add("stage-object-detector", frames, 60, clip=clip, cold=detector_cold))
    t = max(ends) + 4
    for stage in ("stage-embedder", "stage-search", "stage-explainer"):
        t = add(stage, t, 30) + 4
    own = invocation(ORCHESTRATOR, at, took=t - at - 4, request=name)
    return [own, *rows]


def table(rows):
    schema = polars_schema(StageRow)
    return with_routable(pl.DataFrame([{name: getattr(row, name) for name in schema} for row in rows], schema=schema))


def of(rows):
    return paths(table(rows), (ORCHESTRATOR,), GRAPH)


def test_the_parts_of_a_request_add_up_to_its_time_and_are_those_of_its_stamps():
    found = of(request())
    parts = dict(zip(PARTS, found.parts_s[0] * 1000, strict=True))
    assert found.parts_s.sum() == pytest.approx(found.response_s[0])
    on_path = ("ffmpeg-0", "librosa", "ffmpeg-1", "ffmpeg-2", "deepspeech", "embedder", "search", "explainer")
    assert parts["cold_wait"] == 0
    assert parts["compute"] == pytest.approx(50 * 4 + 200 + 30 * 3 - 16 * len(on_path))
    assert parts["unexplained"] == pytest.approx(len(on_path))
    assert parts["storage"] == pytest.approx(18 * len(on_path))
    # The orchestrator's own way there and back is as any other's.
    assert parts["network"] == pytest.approx(3 * (len(on_path) + 1))
    assert parts["queue"] == pytest.approx(3 * (len(on_path) + 1))


def test_the_path_is_that_of_the_orchestrators_own_metrics():
    rows = request(detector_cold=300)
    chain = critical_path(rows[1:])
    found = of(rows)
    assert [row.stage for row in chain][3:6] == ["stage-ffmpeg-2", "stage-ffmpeg-3", "stage-object-detector"]
    cold_s = sum(row.cold_wait_s for row in chain)
    assert found.parts_s[0, PARTS.index("cold_wait")] == pytest.approx(cold_s)


def test_a_cold_start_beside_the_path_saves_nothing_and_one_on_it_as_much_as_the_next_branch_allows():
    beside = of(request(detector_cold=10))
    assert beside.cold_by_stage_s["stage-object-detector"][0] == 0
    assert beside.saved_s["stage-object-detector"][0] == 0
    on_it = of(request(detector_cold=500))
    assert on_it.cold_by_stage_s["stage-object-detector"][0] == pytest.approx(0.5)
    warm = of(request())
    assert on_it.saved_s["stage-object-detector"][0] == pytest.approx(on_it.response_s[0] - warm.response_s[0])
    assert on_it.saved_s["stage-object-detector"][0] < 0.5, "then the transcript decides"


def test_two_cold_stages_are_each_worth_what_the_other_leaves():
    both = of(request(detector_cold=500, speech_cold=400))
    without_detector = of(request(speech_cold=400))
    saved = both.saved_s["stage-object-detector"][0]
    assert saved == pytest.approx(both.response_s[0] - without_detector.response_s[0])


def test_many_requests_at_once_are_as_one_after_the_other():
    rows = [request(f"r{i}", at=1000 + 137 * i, detector_cold=40 * i, speech_cold=25 * (i % 5)) for i in range(20)]
    together = of([row for each in rows for row in each])
    order = {name: i for i, name in enumerate(together.request_ids)}
    for i, each in enumerate(rows):
        alone, at = of(each), order[f"r{i}"]
        assert together.parts_s[at] == pytest.approx(alone.parts_s[0])
        for stage, saved in alone.saved_s.items():
            assert together.saved_s[stage][at] == pytest.approx(saved[0])


def test_a_repeated_stage_counts_with_the_attempt_whose_outputs_were_used():
    rows = request()
    failed = next(row for row in rows if row.stage == "stage-explainer")
    again = invocation("stage-explainer", failed.returned_at_ns // MS + 20, took=30, attempt=2)
    rows[0].worked_at_ns += 100 * MS
    rows[0].finished_at_ns += 100 * MS
    rows[0].returned_at_ns += 100 * MS
    failed.status = "failed"
    found = of([*rows, again])
    assert found.parts_s.sum() == pytest.approx(found.response_s[0])
    assert found.parts_s[0, PARTS.index("orchestration")] > 0.02, "the pause between the attempts"


def test_a_single_stage_is_its_own_path():
    rows = [invocation("stage-embedder", 100 * i + 1, cold=20 * i, took=30, request=f"r{i}") for i in range(3)]
    found = paths(table(rows), ("stage-embedder",))
    assert found.response_s == pytest.approx(np.array([0.039, 0.059, 0.079]))
    assert found.saved_s["stage-embedder"] == pytest.approx(np.array([0, 0.02, 0.04]))


def test_without_the_replicas_stamps_all_of_a_requests_time_is_unexplained():
    row = StageRow(request_id="r", invocation_id="i", stage="f", sent_at_ns=1 * MS, returned_at_ns=41 * MS)
    found = paths(table([row]), ("f",))
    assert found.parts_s[0, PARTS.index("unexplained")] == pytest.approx(0.04)
    assert found.parts_s.sum() == pytest.approx(0.04)


def test_a_foreign_gateway_without_stamp_leaves_the_way_there_in_the_queue():
    row = invocation("stage-embedder", 100, took=30)
    row.forwarded_at_ns = 0
    found = paths(table([row]), ("stage-embedder",))
    assert found.parts_s[0, PARTS.index("queue")] == pytest.approx(0.004)
    assert found.parts_s[0, PARTS.index("network")] == pytest.approx(0.002)


def test_no_answer_at_all_is_no_path():
    row = StageRow(request_id="r", invocation_id="i", stage=ORCHESTRATOR, sent_at_ns=1, status="lost")
    assert len(of([row]).response_s) == 0


def test_what_a_gateway_without_a_queue_kept_is_a_part_of_its_own_and_shown_only_where_there_is_some():
    row = invocation("stage-embedder", 100, cold=300, took=30)
    row.ready_at_ns, row.cold_wait_s, row.held_s = 1, 0.0, 0.302
    found = paths(table([row]), ("stage-embedder",))
    parts = dict(zip(PARTS, found.parts_s[0], strict=True))
    assert (parts["cold_wait"], parts["held"], parts["queue"]) == (0, pytest.approx(0.302), pytest.approx(0.001))
    assert found.parts_s.sum() == pytest.approx(found.response_s[0])
    assert "held" in told([parts])
    assert "held" not in told([parts | {"held": 0.0}])
