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
    "stage-embedder",
    "stage-search",
    "stage-explainer",
)
PIPELINE = "pipeline"
# What functions read from their environment, beside addresses and credentials; the embedded platform passes it on.
FUNCTION_SETTINGS = {
    "AWS_REGION": "region of the object store (us-east-1)",
    "CONFIG_PROFILE": "name of the regime for the record, where a request names none",
    "FAVE_ALLOWED_BUCKETS": "further buckets that inputs may come from, comma-separated",
    "FAVE_DETECTOR_MODEL": "another file for the object detector",
    "FAVE_EMBEDDER_MODEL": "another file for the text embedder",
    "FAVE_EMBEDDER_TOKENIZER": "its tokenizer",
    "FAVE_FFMPEG": "another ffmpeg",
    "FAVE_LAZY": "1: models are loaded by the first invocation, not before the replica is ready",
    "FAVE_MAX_INPUT_BYTES": "a larger input is refused (536870912)",
    "FAVE_SHIP_LOGS": "how often logs go to the object store under logs/, e.g. 10s; empty: never",
    "FAVE_WHISPER_MODEL": "another folder for the speech model",
    "LLM_API_KEY": "sent to the language model as a bearer token",
    "LLM_BASE_URL": "an OpenAI-compatible endpoint for stage-explainer; empty: extract without a model",
    "LLM_MODEL": "which model to ask for",
    "MAX_CONCURRENT_INVOCATIONS": "of one request (8)",
}
# Keys of real inputs that `python -m assets --upload` puts into the store. Other stages need another stage's output.
SAMPLE_INPUTS = {"stage-ffmpeg-0": ("samples/short.mp4",), "stage-object-detector": ("samples/frames/0005.jpg",)}


def functions_of(target: str) -> tuple[str, ...]:
    """What must be deployed for a target: everything for `pipeline`, else the one stage."""
    return (ORCHESTRATOR, *STAGES) if target == PIPELINE else (target,)
