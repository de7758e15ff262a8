#!/usr/bin/env python3
# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Put the figures of build/bench/judge.json into docs/judge.md, between its `<!-- bench: … -->` marks."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Callable, Dict, List, Tuple

sys.path[:0] = [str(Path(__file__).resolve().parent)]

from bench_judge import RATES, ROOT, Row  # noqa: E402
from judge_traffic import SCENARIOS  # noqa: E402

Cells = Dict[Tuple[str, str, int, int], Row]
RIVALS = ("balanced", "argo", "flagger", "kayenta")
FEATURED = ("healthy-0.5", "healthy-0.9", "outage", "retries-3", "bursts-40s", "lasting")
FOUND = ("0.1-0.5", "0.5-3", "0.5-5", "0.5-50", "late-25")


def runs(cells: Cells) -> str:
    most = max(row.runs for row in cells.values() if not SCENARIOS[row.scenario].regression)
    return f"{most:,} bakes a cell for false aborts."


def healthy(cells: Cells) -> str:
    columns = (("balanced", 5), ("balanced", 10), ("balanced", 25), ("balanced, no history", 10))
    columns += (("careful", 25), ("fast", 10))
    lines = ["| traffic | 19 places | 9 places | *3 places* | *9, no history* | *`careful`, 3* | *`fast`, 9* |"]
    lines.append("|---" * 7 + "|")
    for key, scenario in SCENARIOS.items():
        if not scenario.regression:
            worst = [percent(max(cells[j, key, rps, share].abort_rate for rps in RATES)) for j, share in columns]
            lines.append(f"| {scenario.label} | " + " | ".join(worst[:2] + [f"*{one}*" for one in worst[2:]]) + " |")
    return "\n".join(lines)


def found(cells: Cells) -> str:
    judges = ("careful", "balanced", "fast", "balanced, no history")
    lines = ["| release | `careful` | `balanced` | `fast` | `balanced`, no history |", "|---" * 5 + "|"]
    for key, scenario in SCENARIOS.items():
        if scenario.regression:
            lines.append(f"| {scenario.label} | " + " | ".join(seen(cells[j, key, 100, 10]) for j in judges) + " |")
    return "\n".join(lines)


def others(cells: Cells) -> str:
    lines = ["| | ours, `balanced` | Argo Rollouts | Flagger | Kayenta |", "|---" * 5 + "|"]
    for key in FEATURED:
        rates = [percent(cells[judge, key, 100, 10].abort_rate) + " %" for judge in RIVALS]
        lines.append(f"| aborted: {SCENARIOS[key].label} | " + " | ".join(rates) + " |")
    for key in FOUND:
        shown = [seen(cells[judge, key, 100, 10]) for judge in RIVALS]
        lines.append(f"| found: {SCENARIOS[key].label} | " + " | ".join(shown) + " |")
    return "\n".join(lines)


def passes(cells: Cells) -> str:
    lines = ["| healthy release | " + " | ".join(f"{rps:,} requests/s" for rps in RATES) + " |", "|---" * 4 + "|"]
    for key in ("healthy-0", "healthy-0.1", "healthy-0.5", "retries-3", "retries-8", "lasting"):
        shown = [passed(cells["balanced", key, rps, 10]) for rps in RATES]
        lines.append(f"| {SCENARIOS[key].label} | " + " | ".join(shown) + " |")
    return "\n".join(lines)


def dearer(cells: Cells) -> str:
    small, quick = cells["balanced", "0.5-5", 100, 5], cells["fast", "0.5-5", 100, 5]
    early, late = cells["balanced", "0.5-5", 100, 10], cells["balanced", "late-25", 100, 10]
    busy = cells["balanced", "late-25", 1000, 10]
    lines = ["| 5 % errors | `balanced` | `fast` |", "|---|---|---|"]
    lines.append(f"| 5 requests/s on the canary | {seen(small)} | {seen(quick)} |")
    for label, one in (("10 requests/s", early), ("10 requests/s, after 25 min", late)):
        lines.append(f"| {label} | {seen(one)} | {seen(cells['fast', one.scenario, one.rps, one.share])} |")
    lines.append(f"| 100 requests/s, after 25 min | {seen(busy)} | {seen(cells['fast', 'late-25', 1000, 10])} |")
    return "\n".join(lines)


def percent(rate: float) -> str:
    return f"{rate:.2g}" if rate < 10 else f"{rate:.0f}"


def seen(row: Row) -> str:
    """Seconds and bad requests, after the share found where that is not all of them."""
    share = "" if row.abort_rate >= 99.5 else f"{row.abort_rate:.0f} %"
    if row.median_s is None or row.median_bad is None:
        return share
    return f"{share}{': ' if share else ''}{row.median_s:.0f} s / {row.median_bad:.0f}"


def passed(row: Row) -> str:
    if row.pass_median_s is None:
        return "no pass"
    share = "" if (row.pass_rate or 0.0) >= 99.5 else f"{row.pass_rate:.0f} %: "
    return f"{share}{row.pass_median_s:.0f} s"


WRITERS: Dict[str, Callable[[Cells], str]] = {
    writer.__name__: writer for writer in (runs, healthy, found, passes, dearer, others)
}


def main() -> None:
    rows: List[Row] = [Row(**row) for row in json.loads((ROOT / "build/bench/judge.json").read_text())["rows"]]
    cells: Cells = {(row.judge, row.scenario, row.rps, row.share): row for row in rows}
    page = ROOT / "docs" / "judge.md"
    words = page.read_text(encoding="utf-8")
    for name, writer in WRITERS.items():
        mark = rf"(<!-- bench: {name} -->\n).*?(\n<!-- end -->)"
        words, count = re.subn(mark, lambda m, w=writer: m[1] + w(cells) + m[2], words, flags=re.DOTALL)
        if count != 1:
            raise SystemExit(f"docs/judge.md has {count} places for {name}, not one")
    page.write_text(words, encoding="utf-8")


if __name__ == "__main__":
    main()
