"""Remarks on rows that are good, and yet may not be what somebody means to train on."""

from __future__ import annotations

from collections.abc import Mapping

_LABELS = ("label", "kto_tag")


class Remarks:
    """Fed with every good row as it came; `of` is the format it was taken for."""

    def __init__(self) -> None:
        self._unlearnt = self._same = self._numbered = self._tools = 0
        self._labels: dict[bool, int] = {True: 0, False: 0}

    def add(self, record: Mapping[str, object], of: str) -> None:
        """Take in a row."""
        self._unlearnt += _without_weight(record.get("messages"))
        if of.endswith("preference"):
            first, second = ("chosen", "rejected")
            if "preferred_output" in record:
                first, second = ("preferred_output", "non_preferred_output")
            self._same += record.get(first) == record.get(second)
        asked = record.get("input")
        self._tools += of == "openai_preference" and isinstance(asked, dict) and _has_tools(asked)
        label = next((record[name] for name in _LABELS if name in record), None)
        if isinstance(label, bool):
            self._labels[label] += of.endswith("kto")
        elif isinstance(label, int) and label in (0, 1):
            self._numbered += not of.endswith("kto")

    def told(self) -> list[str]:
        """A sentence each."""
        said = []
        if self._unlearnt:
            said.append(
                f"{self._unlearnt} answers have the weight 0, for which the trainer has no place: "
                "they are learnt as others are. The override mask_history learns the last answer "
                "of each conversation only"
            )
        if self._same:
            said.append(f"in {self._same} rows the chosen answer is the rejected one")
        if self._tools:
            said.append(
                f"{self._tools} questions come with tools, for which the trainer has no place in "
                "preferences: the model does not see them"
            )
        if self._numbered:
            said.append(
                f"{self._numbered} rows have a label of 0 or 1, which is not looked at: in the "
                "format kto it is true or false"
            )
        said += [
            f"no row has the label {str(missing).lower()}: kto learns from both kinds"
            for missing, other in ((True, False), (False, True))
            if self._labels[other] and not self._labels[missing]
        ]
        return said


def _has_tools(asked: Mapping[str, object]) -> bool:
    return bool(asked.get("tools") or asked.get("functions"))


def _without_weight(turns: object) -> int:
    if not isinstance(turns, list):
        return 0
    return sum(isinstance(turn, dict) and turn.get("weight") == 0 for turn in turns)
