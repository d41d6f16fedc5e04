"""Speech whose words are known, and how many of them were misheard."""

from __future__ import annotations

import re

# The five recordings of human speech that the sample's package ships, and what is said in them.
RECORDINGS = {
    "0870": "and mister john dashwood had then leisure to consider how much there might be prudently in his power to do"
    " for them",
    "0880": "he was not an ill disposed young man",
    "0890": "unless to be rather cold hearted and rather selfish is to be ill disposed",
    "0920": "had he married a more amiable woman he might have been made still more respectable than he was",
    "0930": "he might even have been made amiable himself",
}
_DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
_SAME = {"mr": "mister"} | {str(digit): word for digit, word in enumerate(_DIGITS)}


def words(text: str) -> list[str]:
    """In lower case, without punctuation; `Mr.` and `mister`, `1` and `one` are the same word."""
    return [_SAME.get(word, word) for word in re.findall(r"[a-z]+|\d", text.lower())]


def word_errors(reference: list[str], heard: list[str]) -> int:
    """Edit distance in words."""
    row = list(range(len(heard) + 1))
    for i, word in enumerate(reference, 1):
        row, last = [i], row
        for j, other in enumerate(heard, 1):
            row.append(min(last[j] + 1, row[-1] + 1, last[j - 1] + (word != other)))
    return row[-1]
