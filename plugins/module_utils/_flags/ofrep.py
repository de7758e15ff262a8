# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a client is served, asked by OFREP, OpenFeature's protocol for remote evaluation: `client_url` speaks it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Optional

from .._tell.text import clean
from .model import Deadline, FlagError, Options, Served, Where, Wish
from .names import segment

if TYPE_CHECKING:
    from .client import Answer, Http

BY = "OFREP evaluation"
NOBODY = "selfheal.delivery"  # who is evaluated where the task's context names nobody
_CODE_DEFAULT = ("DISABLED", "ERROR")
# DEFAULT: there are rules, and none of them fits; without rules it would be STATIC
_BY_RULES = ("TARGETING_MATCH", "TARGETING_MATCH_SPLIT", "SPLIT", "DEFAULT")
_NO_VARIANT = "SdkDefault"  # what GO Feature Flag calls the code's default; the value beside it is nobody's


class Ofrep:
    """One server that evaluates flags; asked only when `client_url` is set."""

    def __init__(self, options: Options, deadline: Deadline) -> None:
        self._options, self._deadline = options, deadline
        self._http: Optional["Http"] = None

    @property
    def there(self) -> bool:
        return bool(self._options.client_url)

    def served(self, where: Where, wish: Wish) -> Served:
        """The evaluation for the wish's context. What the server does not evaluate is not known."""
        context = {"targetingKey": NOBODY, **wish.context}
        path = f"/ofrep/v1/evaluate/flags/{segment(where.flag)}"
        answer = self._server().ask("POST", path, {"context": context}, evaluates=True)
        if not answer.ok:
            raise _refused(answer, where)
        reason = str(answer.fields.get("reason", ""))
        nothing = answer.fields.get("value") is None or answer.fields.get("variant") == _NO_VARIANT
        if nothing or reason in _CODE_DEFAULT:
            why = f"clients get their code's default, reason {clean(reason, 40) or 'none'}"
            return Served(False, why=why, by=BY)
        if wish.for_all and reason in _BY_RULES:
            why = f"rules decided what is served here, reason {reason}: others may be served something else"
            return Served(False, why=why, by=BY)
        return Served(True, answer.fields["value"], by=BY)

    def close(self) -> None:
        if self._http is not None:
            self._http.close()

    def _server(self) -> "Http":
        if self._http is None:
            from .client import Http, token_of  # only here: its library takes longer to load than a file to be changed

            token = token_of(self._options, client=True, needed=False)
            headers = {"Authorization": f"Bearer {token}"} if token else {}
            self._http = Http(self._options.client_url, self._options, headers, self._deadline)
        return self._http


def _refused(answer: "Answer", where: Where) -> FlagError:
    from .client import refused

    said = answer.fields.get("errorDetails") or answer.fields.get("errorCode")
    if isinstance(said, str) and not answer.said:
        answer = replace(answer, said=clean(said, 200))
    return refused(
        answer,
        f"evaluating {where}",
        {401: "the client token is missing or wrong", 404: "the server that evaluates has no such flag that works"},
        mend="Check provider.client_url, and what it reads its flags from",
    )
