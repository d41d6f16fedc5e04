"""Which frames show the same picture: by the cosine of the detector's features. Pure, and without numpy."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable
from operator import mul

from functions.documents import Feature


class Pictures:
    """Frames by their addresses. A frame without a feature is like no other.

    From `same_picture` on, two frames of a clip are one picture.
    """

    def __init__(self, features: dict[str, Feature], same_picture: float) -> None:
        self._features = features
        self._same_picture = same_picture
        self._length = functools.cache(lambda uri: math.sqrt(_product(self._of(uri), self._of(uri))))

    def _of(self, uri: str) -> bytes:
        return self._features.get(uri, b"")

    def similarity(self, one: str, other: str) -> float:
        """0 to 1. A feature has no negative part, so pictures of different scenes are far above 0 as well."""
        lengths = self._length(one) * self._length(other)
        return min(1.0, _product(self._of(one), self._of(other)) / lengths) if lengths else 0.0

    def seen(self, uri: str, before: Iterable[str]) -> bool:
        return any(self.similarity(uri, other) >= self._same_picture for other in before)

    def distinct(self, uris: Iterable[str], at_most: int) -> list[str]:
        """The first of each picture, in order."""
        kept: list[str] = []
        for uri in uris:
            if len(kept) == at_most:
                break
            if not self.seen(uri, kept):
                kept.append(uri)
        return kept


def _product(one: bytes, other: bytes) -> int:
    return sum(map(mul, one, other))
