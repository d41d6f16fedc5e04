"""A video's sound and picture on one timeline, which begins where its container begins.

What is decoded and when it was stamped decides, not what a header says of lengths: sound that starts late begins with
silence, lost packets are silence, and a picture is shown until the next one comes.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from fractions import Fraction
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import av
import numpy as np
from av.audio.resampler import AudioResampler
from av.stream import Disposition

from fave.errors import StageError
from functions.containers import ALLOWED, READ, missing_bytes
from functions.documents import Media, Picture, Sound
from functions.host import work

if TYPE_CHECKING:
    from av.audio.frame import AudioFrame
    from av.audio.stream import AudioStream
    from av.container import InputContainer
    from av.packet import Packet
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

Samples = np.ndarray[Any, np.dtype[np.int16]]

# Stamps are rounded to what a container can write (1 ms in Matroska): only more than this is a gap or an overlap.
_JITTER_S = Fraction(1, 50)
# Transport streams that were joined begin to count anew; ffmpeg draws the line there as well.
_JUMP_S = 10
_JOINABLE = frozenset(["mpegts", "mpeg"])
# A far stamp is no reason to make a minute of silence at once.
_LONGEST_SILENCE = 65_536


class Shown(NamedTuple):
    """A decoded picture and when it appears, in seconds from the start of the timeline."""

    at_s: float
    frame: VideoFrame


class Video:
    """An open file. `sound_track`: 1 for the first one, 0 for the one that ffmpeg would play.

    ends_s: where the packets read so far end, by stream. cut_short: the last packet of all is not whole.
    """

    def __init__(self, path: Path, container: InputContainer, sound_track: int = 0) -> None:
        self._container = container
        self._offset_s = Fraction(0)  # of joined transport streams
        self.ends_s: dict[int, float] = {}
        self.cut_short = missing_bytes(path) > 0
        self.picture = _moving(container)
        self.sound = _chosen(container, sound_track)
        begins = (*container.streams.audio, *_pictures_of(container))
        self._zero_s = min(
            (_seconds(stream.start_time, stream.time_base) for stream in begins if stream.start_time is not None),
            default=Fraction(0),
        )

    @property
    def end_s(self) -> float:
        """Where the longer of sound and picture ends, as far as it was read."""
        return max(self.ends_s.values(), default=0.0)

    def facts(self) -> Media:
        """What was opened and what was chosen of it; `duration_s` as far as it was read."""
        picture, sound = self.picture, self.sound
        return Media(
            container=self._container.format.name,
            duration_s=round(self.end_s, 3),
            picture=Picture(codec=picture.codec_context.name, width_px=picture.width, height_px=picture.height)
            if picture
            else None,
            sound=Sound(
                codec=sound.codec_context.name,
                track=self._container.streams.audio.index(sound) + 1,
                tracks=len(self._container.streams.audio),
                language=sound.language or "",
                title=sound.metadata.get("title", ""),
                rate_hz=sound.rate,
                channels=sound.channels,
            )
            if sound
            else None,
        )

    def sound_blocks(self, rate_hz: int, channels: int) -> Iterator[Samples]:
        """All sound from the start of the timeline, [n, channels] (1 or 2) at `rate_hz`, without a gap."""
        track = _Track(rate_hz, channels)
        for frame in self._heard():
            yield from track.take(frame, self._at(frame))
        yield from track.rest()

    def pictures(self) -> Iterator[Shown]:
        """All pictures in the order in which they appear."""
        if self.picture is None:
            return
        step_s = float(1 / (self.picture.guessed_rate or 25))
        last_s = -step_s
        for frame in chain.from_iterable(map(_decoded, self._packets_of(self.picture))):
            at = self._at(frame)
            at_s = last_s + step_s if at is None else float(at)
            if at_s > last_s:
                yield Shown(at_s, frame)
                last_s = at_s

    def _at(self, frame: AudioFrame | VideoFrame) -> Fraction | None:
        """The frame's time on the timeline; None where it has no stamp."""
        return None if frame.pts is None else _seconds(frame.pts, frame.time_base) - self._zero_s

    def _heard(self) -> Iterator[AudioFrame]:
        """All decoded sound. After lost packets the decoder begins anew: most codecs hold back half of a packet, and
        what was said before the gap would be heard again behind it.
        """
        if self.sound is None:
            return
        last, length = Fraction(0), Fraction(0)  # the packet before: its stamp, and what was in it
        for packet in self._packets_of(self.sound):
            at = _seconds(packet.pts or 0, packet.time_base)
            if length and at - last > length + _JITTER_S:
                self.sound.codec_context.flush_buffers()
            frames = _decoded(packet)
            last, length = at, sum(Fraction(frame.samples, frame.sample_rate) for frame in frames) or length
            yield from frames

    def _packets_of(self, stream: AudioStream | VideoStream) -> Iterator[Packet[Any]]:
        stream.codec_context.thread_count = 1
        return (packet for packet in self._packets() if packet.stream is stream)

    def _packets(self) -> Iterator[Packet[Any]]:
        """Every packet of sound and picture, and an empty one for each at the end.

        Raises
        ------
        StageError
            `timeout` or `aborted`, once the work was ended.
        """
        here = work.current()
        streams = [stream for stream in (self.sound, self.picture) if stream is not None]
        joinable = self._container.format.name in _JOINABLE
        last: dict[int, Fraction] = {}
        whole = True
        try:
            for packet in self._container.demux(*streams):
                here.check()
                if packet.size:
                    whole = joinable or not packet.is_corrupt
                    if joinable:
                        self._join(packet, last)
                    index, stamp = packet.stream.index, packet.dts if packet.pts is None else packet.pts
                    end = _seconds((stamp or 0) + (packet.duration or 0), packet.time_base) - self._zero_s
                    self.ends_s[index] = max(self.ends_s.get(index, 0.0), float(end))
                yield packet
        except av.FFmpegError:
            whole = False
        self.cut_short = self.cut_short or not whole

    def _join(self, packet: Packet[Any], last: dict[int, Fraction]) -> None:
        """Move the stamps of what follows a jump to where the stream had got to; sound and picture alike."""
        if packet.dts is None:
            return
        index, base = packet.stream.index, packet.time_base
        now = _seconds(packet.dts, base) + self._offset_s
        before = last.get(index, now)
        if abs(now - before) > _JUMP_S:
            self._offset_s += before - now
            now = before
        last[index] = now
        moved = round(self._offset_s / base)
        packet.dts += moved
        packet.pts = None if packet.pts is None else packet.pts + moved


class _Track:
    """Frames of sound laid down in their places, at one rate and number of channels."""

    def __init__(self, rate_hz: int, channels: int) -> None:
        self._rate_hz = rate_hz
        self._channels = channels
        self._resampler: AudioResampler | None = None
        self._form: tuple[object, ...] = ()  # of the frames that the resampler takes
        self._next = Fraction(0)  # s, where the last frame ended
        self._position = 0  # samples given out; below 0: what lies before the timeline is still to be dropped

    def take(self, frame: AudioFrame, at: Fraction | None) -> Iterator[Samples]:
        length = Fraction(frame.samples, frame.sample_rate)
        at = self._next if at is None else at
        if at + length <= self._next:
            return  # what is there twice is heard once
        form = (frame.format.name, frame.layout.name, frame.sample_rate)
        if form != self._form or abs(at - self._next) > _JITTER_S:
            yield from self.rest()
            yield from self._silence_until(max(at, self._next) if self._position else at)
            self._form = form
            self._next = at
        if self._resampler is None:
            layout = "mono" if self._channels == 1 else "stereo"
            self._resampler = AudioResampler(format="s16", layout=layout, rate=self._rate_hz)
        self._next += length
        frame.pts = None  # the place is ours to find
        yield from self._out(self._resampler.resample(frame))

    def rest(self) -> Iterator[Samples]:
        """What the resampler still holds."""
        if self._resampler is not None:
            yield from self._out(self._resampler.resample(None))
            self._resampler = None

    def _silence_until(self, at: Fraction) -> Iterator[Samples]:
        wanted = round(at * self._rate_hz)
        if not self._position and wanted < 0:
            self._position = wanted
        while self._position < wanted:
            count = min(_LONGEST_SILENCE, wanted - self._position)
            self._position += count
            yield np.zeros((count, self._channels), np.int16)

    def _out(self, frames: list[AudioFrame]) -> Iterator[Samples]:
        for frame in frames:
            samples = np.asarray(frame.to_ndarray(), np.int16).reshape(-1, self._channels)
            early = min(max(0, -self._position), len(samples))
            self._position += len(samples)
            if early < len(samples):
                yield samples[early:]


@contextlib.contextmanager
def opened(path: Path, sound_track: int = 0) -> Iterator[Video]:
    """The video in `path`.

    Raises
    ------
    StageError
        `not-a-video` for what is none of the containers that are read here, `truncated` where its index is missing,
        `bad-request` for a sound track that it does not have.
    """
    try:
        container = av.open(str(path), container_options=ALLOWED, options=ALLOWED)
    except (av.FFmpegError, ValueError) as error:
        if missing_bytes(path):
            raise StageError("truncated", f"the file lacks {missing_bytes(path)} bytes of its end") from error
        raise StageError("not-a-video", f"none of the containers that are searched ({READ})") from error
    with container:
        yield Video(path, container, sound_track)


def _decoded(packet: Packet[Any]) -> list[Any]:
    """The packet's frames. What cannot be decoded is left out: its place stays empty."""
    frames = []
    with contextlib.suppress(av.FFmpegError):
        frames.extend(packet.decode())
    return frames


def _pictures_of(container: InputContainer) -> list[VideoStream]:
    """Without covers and thumbnails, which are pictures of the file and not in it."""
    still = Disposition.attached_pic | Disposition.timed_thumbnails
    return [stream for stream in container.streams.video if not stream.disposition & still]


def _moving(container: InputContainer) -> VideoStream | None:
    """The best of several, as ffmpeg sees it."""
    found = [stream for stream in _pictures_of(container) if stream.codec_context and stream.width and stream.height]
    best = container.streams.best("video")
    return best if best in found else next(iter(found), None)


def _chosen(container: InputContainer, sound_track: int) -> AudioStream | None:
    tracks = [stream for stream in container.streams.audio if stream.codec_context]
    if not sound_track:
        best = container.streams.best("audio")
        return best if best in tracks else next(iter(tracks), None)
    if sound_track > len(tracks):
        raise StageError("bad-request", f"sound_track is {sound_track}, the video has {len(tracks)}")
    return tracks[sound_track - 1]


def _seconds(stamp: int, base: Fraction | None) -> Fraction:
    return stamp * (base or Fraction(0))
