"""The functions of the VideoSearcher pipeline by their service names. A new stage is a folder and a line here."""

ORCHESTRATOR = "orchestrator"
STAGES = (
    "stage-ffmpeg-0",
    "stage-librosa",
    "stage-ffmpeg-1",
    "stage-ffmpeg-2",
    "stage-deepspeech",
    "stage-ffmpeg-3",
    "stage-object-detector",
    "stage-search",
)
PIPELINE = "pipeline"
# Keys of real inputs that `python -m assets --upload` puts into the store. Other stages need another stage's output.
SAMPLE_INPUTS = {"stage-ffmpeg-0": ("samples/short.mp4",), "stage-object-detector": ("samples/frames/0005.jpg",)}


def functions_of(target: str) -> tuple[str, ...]:
    """What must be deployed for a target: everything for `pipeline`, else the one stage."""
    return (ORCHESTRATOR, *STAGES) if target == PIPELINE else (target,)
