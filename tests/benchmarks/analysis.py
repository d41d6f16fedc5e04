"""`make bench-analysis`: how long a report takes and how much memory, of a large campaign and of the published example.

The large one is made up here (seeded): the pipeline in two regimes, ten blocks, a million requests, seven stages each,
rows as the driver writes them. Time and memory are those of `python -m analysis report` as a whole process, start
included; the peak is the largest of the process itself.
"""

from __future__ import annotations

import argparse
import os
import random
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from fave.campaign.rundir import CellDir, read_json, write_json
from fave.settings import ROOT
from tests.support.videosearcher import ORCHESTRATOR

_EXAMPLE, _PIPELINE = ROOT / "runs" / "example", ROOT / "runs" / "example-pipeline"
_STAGES = ("stage-ffmpeg-0", "stage-librosa", "stage-ffmpeg-1", "stage-embedder", "stage-search", "stage-explainer")
_BLOCKS, _REGIMES = 10, ("cold", "warm")
_MS = 1_000_000
# As long as a real row: ids, replica, stamps.
_STAGE_ROW = (
    '{"schema":1,"request_id":"%s","invocation_id":"%s.%s.1","parent_id":"%s","attempt":1,"stage":"%s","clip":"",'
    '"replica_id":"%s-%d","sent_at_ns":%d,"forwarded_at_ns":%d,"received_at_ns":%d,"started_at_ns":%d,"worked_at_ns":%d,'
    '"finished_at_ns":%d,"returned_at_ns":%d,"process_started_at_ns":1,"ready_at_ns":%d,"invocations_before":%d,'
    '"cold":%s,"cold_wait_s":%.6f,"queue_s":0.002,"service_s":%.6f,"storage_read_s":0.004,"storage_write_s":0.003,'
    '"compute_s":%.6f,"init_s":0.0,"input_bytes":123456,"output_bytes":6543,"memory_limit_mb":256,"peak_rss_mb":81.5,'
    '"cost_gb_s":%.6f,"evidence":"platform","status":"ok","error":""}\n'
)
_REQUEST_ROW = (
    '{"schema":1,"k":%d,"request_id":"%s","regime":"%s","load":"pipeline","phase":"","attempts":1,"scheduled_at_ns":%d,'
    '"fired_at_ns":%d,"sent_at_ns":%d,"first_byte_at_ns":%d,"done_at_ns":%d,"latency_s":%.6f,"response_time_s":%.6f,'
    '"schedule_lag_s":0.001,"status":"ok","error":"","dropped":false,"cold":%s,"cold_wait_s":%.6f,"invocations":7,'
    '"cold_invocations":%d,"cost_gb_s":0.1,"bytes":900}\n'
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=1_000_000)
    parser.add_argument("--times", type=int, default=3, help="each report, how often (default: 3)")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="fave-analysis-") as scratch:
        example, large = Path(scratch) / "example", Path(scratch) / "large"
        shutil.copytree(_EXAMPLE, example)
        _say(f"making {arguments.requests:,} requests ...")
        rows = _make(large, arguments.requests)
        _say("| report of | stage rows | wall s, each time | peak MB |\n|---|---|---|---|")
        for name, folder, stages in (("the example", example, "-"), ("the large one", large, f"{rows:,}")):
            took = [_report(folder) for _ in range(arguments.times)]
            seconds = ", ".join(f"{each[0]:.1f}" for each in took)
            _say(f"| {name} | {stages} | {seconds} | {max(each[1] for each in took):.0f} |")


def _report(folder: Path) -> tuple[float, float]:
    """Seconds, and the peak of the process in MB."""
    began_s = time.monotonic()
    process = subprocess.Popen([sys.executable, "-m", "analysis", "report", str(folder)], stdout=subprocess.DEVNULL)
    _, _, usage = os.wait4(process.pid, 0)
    return time.monotonic() - began_s, _peak_mb(usage)


def _peak_mb(usage: resource.struct_rusage) -> float:
    return usage.ru_maxrss / 1024


def _make(folder: Path, requests: int) -> int:
    """Stage rows that were written."""
    info = read_json(_PIPELINE / "campaign.json")
    settings = {
        name: {"min_replicas": 0, "max_replicas": 2, "idle_timeout": "4s", "max_in_flight": 1, "memory_limit_mb": 256}
        for name in (ORCHESTRATOR, *_STAGES)
    }
    pipeline = next(each for each in info["experiment"]["loads"].values() if each["target"] == "pipeline")
    load = pipeline | {"blocks": _BLOCKS, "descriptive": False, "regimes": [], "overrides": {}}
    info["experiment"] |= {
        "loads": {"pipeline": load},
        "regimes": list(_REGIMES),
        "contrasts": [list(_REGIMES)],
        "controls": [],
    }
    info |= {"regimes": {}, "schedules_sha256": {}, "campaign": "large"}
    each = requests // (_BLOCKS * len(_REGIMES))
    names = [(block, regime) for block in range(_BLOCKS) for regime in _REGIMES]
    info["order"] = [f"{block:02d}_pipeline_{regime}" for block, regime in names]
    write_json(folder / "campaign.json", info)
    verdict = {"verdict": {"valid": True, "findings": []}}
    written = 0
    for block, regime in names:
        cell = CellDir(folder / "cells" / f"{block:02d}_pipeline_{regime}_1")
        cell.path.mkdir(parents=True)
        written += _rows(cell, f"{block:02d}{regime}", regime, each)
        write_json(cell.verdict, verdict)
        facts = {"block": block, "load": "pipeline", "regime": regime, "target": "pipeline", "settings": settings}
        facts |= {
            "initial_ready": dict.fromkeys(settings, 1),
            "started_at_ns": 10**18,
            "generator": {"scheduled": each},
        }
        write_json(cell.cell, facts)
    return written


def _rows(cell: CellDir, prefix: str, regime: str, count: int) -> int:
    chance = random.Random(prefix)
    replica = (
        '{"schema":1,"at_ns":%d,"source":"prometheus","function":"%s","age_s":0.5,"desired":1,"ready":1,"starting":0}\n'
    )
    with cell.requests.open("w") as requests, cell.stages.open("w") as stages, cell.replicas.open("w") as replicas:
        at = 10**18
        for k in range(count):
            at += int(chance.expovariate(100) * 1e9)
            name = f"20261124-000000-{prefix}-{k:07d}"
            cold_stage = chance.randrange(6) if regime == "cold" and chance.random() < 0.3 else -1
            wait = int(chance.lognormvariate(0, 0.5) * 500) * _MS
            now = begin = at + 6 * _MS
            lines = []
            for i, stage in enumerate(_STAGES):
                mine = wait if i == cold_stage else 0
                work = int(chance.lognormvariate(3.5, 0.3) * _MS)
                lines.append(_stage(name, stage, now + _MS, mine, work, k))
                now += _MS + mine + work + 8 * _MS
            lines.append(_stage(name, ORCHESTRATOR, begin - 5 * _MS, 0, now - begin, k))
            stages.write("".join(lines))
            done = now + 3 * _MS
            took, cold = (done - at) / 1e9, cold_stage >= 0
            times = (at, at + 1000, begin - 5 * _MS, done - 1000, done, took, took - 0.001)
            values = (k, name, regime, *times, str(cold).lower(), wait / 1e9 if cold else 0.0, int(cold))
            requests.write(_REQUEST_ROW % values)
        for i in range(int((at - 10**18) / 5e8)):
            for stage in (ORCHESTRATOR, *_STAGES):
                replicas.write(replica % (10**18 + i * 500 * _MS, stage))
    return 7 * count


def _stage(request: str, stage: str, sent: int, cold: int, work: int, before: int) -> str:
    start = sent + cold + 3 * _MS
    finished = start + work + 2 * _MS
    stamps = (
        sent,
        start - 2 * _MS,
        start - _MS,
        start,
        start + work,
        finished,
        finished + _MS,
        sent + cold if cold else 1,
    )
    service_s = (finished - start) / 1e9
    parts = (service_s, work / 1e9 - 0.008, service_s * 0.25)
    label = (str(cold > 0).lower(), cold / 1e9)
    return _STAGE_ROW % (request, request, stage, request, stage, stage, before % 7, *stamps, before, *label, *parts)


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
