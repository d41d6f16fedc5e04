import pytest

from fave.campaign.rundir import JsonlWriter, read_jsonl, write_atomic
from fave.errors import StageError, StorageError
from fave.storage import parse_uri
from fave.wire.envelope import Envelope, PipelineRequest, check_request_id, decode_body
from fave.wire.invocation import Invocation, measurement_headers, with_caller_side
from fave.wire.records import StageRow, derive

pytestmark = pytest.mark.unit

S = 1_000_000_000


def a_row(**stamps):
    return StageRow(request_id="r", invocation_id="i", stage="stage-search", memory_limit_mb=512, **stamps)


def test_an_invocation_is_cold_when_its_replica_was_not_ready_when_it_was_sent():
    cold = derive(a_row(sent_at_ns=10 * S, ready_at_ns=13 * S, started_at_ns=14 * S, finished_at_ns=16 * S))
    assert (cold.cold, cold.cold_wait_s, cold.queue_s, cold.service_s) == (True, 3.0, 1.0, 2.0)
    warm = derive(a_row(sent_at_ns=10 * S, ready_at_ns=10 * S, started_at_ns=11 * S, finished_at_ns=12 * S))
    assert (warm.cold, warm.cold_wait_s, warm.queue_s) == (False, 0.0, 1.0)


def test_the_parts_of_an_invocation_add_up_to_the_time_the_caller_saw():
    row = derive(a_row(sent_at_ns=10 * S, ready_at_ns=13 * S, started_at_ns=14 * S, finished_at_ns=16 * S))
    row.returned_at_ns = 17 * S
    return_s = (row.returned_at_ns - row.finished_at_ns) / S
    assert row.cold_wait_s + row.queue_s + row.service_s + return_s == (row.returned_at_ns - row.sent_at_ns) / S


def test_cost_is_service_time_times_the_memory_limit():
    assert derive(a_row(started_at_ns=S, finished_at_ns=5 * S)).cost_gb_s == 2.0


def test_a_row_without_stamps_has_no_label_instead_of_a_warm_one():
    row = derive(a_row(sent_at_ns=S))
    assert (row.cold, row.evidence) == (None, "none")


def test_headers_carry_an_invocation_there_and_the_stamps_back():
    call = Invocation(request_id="r", invocation_id="i", parent_id="p", attempt=2, sent_at_ns=5)
    assert Invocation.from_headers({k.lower(): v for k, v in call.headers().items()}) == call
    headers = {"x-fave-replica-id": "a-1", "X-Fave-Ready-At": "7", "Content-Type": "text/plain"}
    assert set(measurement_headers(headers)) == {"x-fave-replica-id", "X-Fave-Ready-At"}
    row = with_caller_side(a_row(), sent_at_ns=6, returned_at_ns=9, headers=headers)
    assert (row.replica_id, row.ready_at_ns, row.cold) == ("a-1", 7, True)


def test_foreign_or_malformed_headers_do_no_harm():
    assert Invocation.from_headers({"X-Fave-Sent-At": "soon"}) == Invocation(request_id="", invocation_id="")


@pytest.mark.parametrize("bad", ["", "a" * 65, "../x", "a..b", "a/b", "a b", "ä"])
def test_request_ids_cannot_escape_their_prefix(bad):
    with pytest.raises(StageError):
        check_request_id(bad)


@pytest.mark.parametrize(
    ("body", "slug"),
    [
        (b"x" * 100_001, "payload-too-large"),
        (b"not json", "bad-request"),
        (b'{"request_id": "r"}', "bad-request"),
        (b'{"schema": 9, "video_uri": "s3://b/k", "query": "q"}', "bad-request"),
    ],
)
def test_bad_bodies_are_refused_with_their_slug(body, slug):
    with pytest.raises(StageError) as caught:
        decode_body(body, PipelineRequest)
    assert caught.value.slug == slug


def test_an_envelope_takes_one_input_or_many():
    base = {"request_id": "r", "stage": "s", "output_uri": "o"}
    assert Envelope(**base, input_uri="a").inputs == ("a",)
    assert Envelope(**base, input_uris=("a", "b")).inputs == ("a", "b")


@pytest.mark.parametrize("uri", ["http://b/k", "/etc/passwd", "s3://b", "s3:///k", "s3://b/../k", "file:///x"])
def test_only_object_store_addresses_are_addresses(uri):
    with pytest.raises(StorageError) as caught:
        parse_uri(uri)
    assert caught.value.slug == "forbidden"


def test_a_line_cut_short_by_a_crash_is_left_out_and_the_rest_is_read(tmp_path):
    path = tmp_path / "rows.jsonl"
    writer = JsonlWriter(path)
    writer.write(a_row())
    writer.write(a_row())
    writer.close()
    with path.open("ab") as file:
        file.write(b'{"request_id": "r3", "invo')
    assert len(list(read_jsonl(path, StageRow))) == 2


def test_a_failed_atomic_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "f"
    write_atomic(path, "old")
    with pytest.raises(TypeError):
        write_atomic(path, 5)
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["f"]
