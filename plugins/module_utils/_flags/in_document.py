# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Providers whose flags lie in a document that clients, or a server of theirs, read and evaluate."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, Dict, Mapping

from .document import Document, altered
from .model import Change, Deadline, Served, State, Where, Wish
from .ofrep import Ofrep
from .texts import same
from .variants import BY, check_unmoved, kept

Flag = Dict[str, Any]

KEEPS = "its own rules are kept aside, and come back when it is turned on without a percentage"


class InDocument(ABC):
    """A provider whose flags choose between named variants. `client`, where there is one, evaluates by OFREP."""

    def __init__(self, document: Document, client: Ofrep, deadline: Deadline) -> None:
        self._document, self._client, self._deadline = document, client, deadline

    @abstractmethod
    def flag(self, document: Mapping[str, Any], where: Where, name: str) -> Flag:
        """The flag in `document`, called `name`; FlagError when there is none, or it is not of the provider's form."""

    @abstractmethod
    def put(self, document: Dict[str, Any], where: Where, flag: Flag) -> None:
        """Let `document` have the flag as `flag`."""

    @abstractmethod
    def wished(self, flag: Flag, where: Where, wish: Wish) -> Flag:
        """The flag as it shall be. OptionError for a wish that it has no variant for."""

    @abstractmethod
    def evaluated(self, flag: Flag, wish: Wish) -> Served:
        """What clients make of the flag, as far as the document alone says it."""

    @abstractmethod
    def described(self, flag: Flag) -> State:
        """The flag's state, but for what it has of its document; `note` says if clients get their code's default."""

    def state(self, where: Where) -> State:
        document, revision = self._document.read()
        flag = self.flag(document, where, self._document.name)
        told = self.described(flag)
        notes = (told.note, KEEPS if kept(flag) else "", self._document.note)
        return State(
            on=told.on,
            percentage=told.percentage,
            variation=told.variation,
            revision=revision,
            note="; ".join(filter(None, notes)),
            raw={"flag": flag},
        )

    def wanted(self, where: Where, wish: Wish, state: State) -> bool:
        flag = state.raw["flag"]
        return isinstance(flag, dict) and not same(flag, self.wished(flag, where, wish))

    def set(self, where: Where, wish: Wish, state: State) -> Change:
        def edit(document: Dict[str, Any]) -> Dict[str, Any]:
            flag = self.flag(document, where, self._document.name)
            check_unmoved(flag, state.raw["flag"], where, wish)
            self.put(document, where, self.wished(flag, where, wish))
            return document

        altered(self._document, self._deadline, edit)
        return Change()

    def effective(self, where: Where, wish: Wish) -> Served:
        if self._client.there and not wish.partial:
            return self._client.served(where, wish)
        document, revision = self._document.read()
        told = self.evaluated(self.flag(document, where, self._document.name), wish)
        if not self._client.there:
            return told
        # one evaluation says nothing of the others: the server has to know the flag, and its rules say how many
        asked = self._client.served(where, wish)
        if not asked.known or not told.known:
            return asked if not asked.known else told
        return Served(True, asked.value, told.percentage, by=f"{asked.by}; the percentage: {BY}")

    def close(self) -> None:
        self._client.close()
        self._document.close()
