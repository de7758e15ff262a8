# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Flags that are a choice between named variants: which one to serve, and what is kept of a flag while it is off."""

from __future__ import annotations

import json
from typing import Any, Dict, List, Mapping, Optional

from .._errors import OptionError, nearest
from .model import ON, FlagError, Served, Where, Wish
from .texts import KEPT, same

BY = "document read back"


def serving(variants: Mapping[str, Any], default: object, where: Where, wish: Wish) -> str:
    """The variant to serve. Of several with the same value, the one that is the default already, or else the first."""
    if wish.variation:
        return _named(variants, where, wish)
    fitting: List[str] = [name for name, value in variants.items() if same(value, wish.serve)]
    if not fitting:
        raise OptionError(
            f"{where} has no variant that serves {json.dumps(wish.serve)}, so its {wish.state} variation is not set"
            f"; it has {_told(variants)}",
            mend="Add one, or set serve to a value of one of them",
        )
    return str(default) if default in fitting else fitting[0]


def resting(variants: Mapping[str, Any], default: object, where: Where, variant: str) -> str:
    """The variant for those whom a percentage of `variant` does not hit: the default, or the only other one."""
    others: List[str] = [name for name in variants if name != variant]
    if default in others:
        return str(default)
    if len(others) == 1:
        return others[0]
    raise OptionError(
        f"{where} has several variants besides {variant!r}, and none is said to be for the rest",
        mend=f"Let it serve one of {', '.join(others) or 'its own'} by default first",
    )


def served_shares(variants: Mapping[str, Any], shares: Mapping[str, float], wish: Wish) -> Served:
    """What is served when so many of 100 get each variant; the value is known when it is the same for all."""
    hit = sum(share for name, share in shares.items() if same(variants[name], wish.serve))
    value = next((variants[name] for name, share in shares.items() if share >= 100), None)
    return Served(True, value, round(hit if wish.state == ON else 100 - hit, 6), by=BY)


def not_known(why: str) -> Served:
    """The document alone does not say what is served, and reading it again will not."""
    return Served(False, why=why, by=BY, final=True)


def kept(flag: Mapping[str, Any]) -> Optional[Dict[str, Any]]:
    """The rules that were put aside when the flag was turned off."""
    text = (flag.get("metadata") or {}).get(KEPT)
    if text is None:
        return None
    try:
        found = json.loads(text)
    except (TypeError, ValueError):
        found = None
    if not isinstance(found, dict):
        raise FlagError(f"what a flag's metadata keeps in {KEPT} is not as it was written", mend="Mend or remove it")
    return found


def with_kept(flag: Mapping[str, Any], rules: Mapping[str, Any]) -> Dict[str, Any]:
    """The flag with `rules` in its metadata, as a text: flagd's schema allows nothing deeper there."""
    return {**flag, "metadata": {**(flag.get("metadata") or {}), KEPT: json.dumps(rules, ensure_ascii=False)}}


def without_kept(flag: Mapping[str, Any]) -> Dict[str, Any]:
    metadata = {name: value for name, value in (flag.get("metadata") or {}).items() if name != KEPT}
    bare = {name: value for name, value in flag.items() if name != "metadata"}
    return {**flag, "metadata": metadata} if metadata else bare


def check_unmoved(flag: object, decided: object, where: Where, wish: Wish) -> None:
    """Refuse to turn on what somebody changed since it was looked at; off is off, whatever it was."""
    if wish.state == ON and not same(flag, decided):
        raise FlagError(f"somebody changed {where} since it was looked at", mend="Look at it, and run this again")


def _named(variants: Mapping[str, Any], where: Where, wish: Wish) -> str:
    name = wish.variation
    if name not in variants:
        raise OptionError(f"{where} has no variation {name!r}{nearest(name, variants)}; it has {_told(variants)}")
    if not same(variants[name], wish.serve):
        raise OptionError(
            f"{where}: variation {name!r} serves {json.dumps(variants[name])}, and serve is {json.dumps(wish.serve)}",
            mend="Set serve to what the variation serves",
        )
    return name


def _told(variants: Mapping[str, Any]) -> str:
    return ", ".join(f"{key} ({json.dumps(value)[:40]})" for key, value in list(variants.items())[:10])
