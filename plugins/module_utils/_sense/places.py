# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which place a metrics server's series belongs to."""

from __future__ import annotations

import re
from typing import Dict, List, Mapping, Optional, Sequence

from .client import NoAnswer
from .line import Line
from .model import EVERYTHING, Targets
from .selector import Selector

_PORT = re.compile(r":\d+$")


class Places:
    """Maps the value of the place label to places: exact, or by its host part. Without targets, all is one place."""

    def __init__(self, targets: Targets, label: str) -> None:
        self._label = label
        self._known: Dict[str, str] = {target.instance or target.place: target.place for target in targets}
        self.names: List[str] = [target.place for target in targets] or [EVERYTHING]

    def narrow(self, selector: Selector) -> Selector:
        """The selector for the known places only, so that a large server answers no more than is asked."""
        if len(self._known) < 2 or any(matcher.label == self._label for matcher in selector.matchers):
            return selector
        hosts = "|".join(re.escape(name) for name in self._known)
        return selector.narrowed(self._label, "=~", rf"\[?(?:{hosts})\]?(?::[0-9]+)?")

    def sort(self, lines: Sequence[Line], asked: str, *, others: bool = False) -> Dict[str, List[Line]]:
        """Lines by place; raises a NoAnswer where there are lines, and all are of nobody.

        With `others`, lines that are all of other places are fine: none of ours has anything to say.
        """
        sorted_lines: Dict[str, List[Line]] = {}
        for line in lines:
            place = self._place(line.labels)
            if place is not None:
                sorted_lines.setdefault(place, []).append(line)
        nameless = [line for line in lines if self._label not in line.labels]
        if lines and not sorted_lines and (nameless or not others):
            raise NoAnswer("query_error", self._nobody((nameless or lines)[0].labels, asked))
        return sorted_lines

    def _place(self, labels: Mapping[str, str]) -> Optional[str]:
        if not self._known:
            return EVERYTHING
        told = labels.get(self._label, "")
        if not told:
            return self.names[0] if len(self.names) == 1 else None
        return self._known.get(told) or self._known.get(_PORT.sub("", told).strip("[]"))

    def _nobody(self, labels: Mapping[str, str], asked: str) -> str:
        if self._label not in labels:
            return f"{asked} has no label {self._label!r} that tells the places apart"
        return (
            f"{asked} is of {self._label}={labels[self._label]!r}, which is no place: set the target's instance, "
            "or place_label"
        )
