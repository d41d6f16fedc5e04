"""What can become of a replica, in the words of the platform's event log and of replica rows."""

START, READY, STOP = "start", "ready", "stop"
CRASHED, OOM_KILLED, START_FAILED = "crashed", "oom_killed", "start_failed"

# Steps of a start, where a cluster tells of them.
SCHEDULED, PULLED, STARTED = "scheduled", "pulled", "started"
# It does not go on for now, for the reason given: it may yet.
HELD_UP = "held_up"

BAD_ENDS = frozenset((CRASHED, OOM_KILLED, START_FAILED))
ENDS = BAD_ENDS | {STOP}
FAILED_STARTS = frozenset((START_FAILED, OOM_KILLED, HELD_UP))
ALL = ENDS | {START, READY}
