#!/usr/bin/env python3
# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Draw docs/judge.svg: the real gate's evidence over one good and two bad bakes, through an outage of all places."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Callable, List, Tuple

ROOT = Path(__file__).resolve().parents[3]
sys.path[:0] = [str(ROOT / ".tree")]

import numpy as np  # noqa: E402

from ansible_collections.selfheal.delivery.plugins.module_utils._judge.model import Arms, Counts, GateLook  # noqa: E402
from ansible_collections.selfheal.delivery.plugins.module_utils._judge.ratio import RatioGate, RatioSpec  # noqa: E402

PLACES, EACH, LOOK, END = 10, 20.0, 2.0, 1200.0  # 100 requests/s over ten places, one of them the canary
OUTAGE = (600.0, 720.0)
LEFT, TOP, WIDTH, HEIGHT = 64, 44, 660, 220
Line = List[Tuple[float, float]]


def bake(canary: Callable[[float], float], key: str, seed: int = 11) -> Line:
    """(seconds, share of the evidence needed) at each look, after 20 minutes of history."""
    rng, gate = np.random.default_rng(seed), RatioGate(RatioSpec("errors"))
    names = tuple(f"place-{index}" for index in range(PLACES))

    def look(elapsed: float, requests: float) -> GateLook:
        shared = 0.3 if OUTAGE[0] <= elapsed < OUTAGE[1] else 0.005
        rates = np.array([max(shared, canary(elapsed))] + [shared] * (PLACES - 1))
        bad = rng.poisson(rates * requests).tolist()
        return GateLook(counts={name: Counts(float(n), requests) for name, n in zip(names, bad, strict=True)})

    for elapsed in np.arange(-1200.0, 0.0, 10.0).tolist():
        gate.observe(look(elapsed, EACH * 5), Arms((), names[1:]), elapsed)
    line: Line = []
    for elapsed in np.arange(0.0, END, LOOK).tolist():
        share = gate.observe(look(elapsed, EACH), Arms(names[:1], names[1:]), elapsed).evidence[key]
        line.append((elapsed + LOOK, share if isinstance(share, float) else 0.0))
        if share == 1.0:
            break
    return line


def path(line: Line, colour: str, dashes: str = "") -> str:
    points = " ".join(f"{x(at):.1f},{y(share):.1f}" for at, share in line)
    return (
        f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="2" stroke-linejoin="round"'
        f' stroke-dasharray="{dashes}"/>'
    )


def x(seconds: float) -> float:
    return LEFT + seconds / END * WIDTH


def y(share: float) -> float:
    return TOP + (1.0 - share) * HEIGHT


def text(at: float, height: float, words: str, colour: str = "#444", anchor: str = "start") -> str:
    return f'<text x="{at:.0f}" y="{height:.0f}" fill="{colour}" text-anchor="{anchor}">{words}</text>'


def end(line: Line, words: str, colour: str, anchor: str = "start") -> str:
    at = line[-1][0]
    dot = f'<circle cx="{x(at):.1f}" cy="{y(line[-1][1]):.1f}" r="4" fill="{colour}"/>'
    return dot + text(x(at) + (8 if anchor == "start" else 60), y(1.0) - 8, words, colour, anchor)


def main() -> None:
    bad = bake(lambda _at: 0.05, "fail")
    late = bake(lambda at: 0.05 if at >= 900.0 else 0.005, "fail")
    good = bake(lambda _at: 0.005, "pass", seed=12)
    parts = [
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 760 320" font-family="sans-serif" font-size="12">',
        "<!-- SPDX-FileCopyrightText: selfheal.delivery contributors -->",
        "<!-- SPDX-License-Identifier: GPL-3.0-or-later -->",
        '<rect width="760" height="320" fill="#fff"/>',
        f'<rect x="{x(OUTAGE[0]):.0f}" y="{TOP}" width="{x(OUTAGE[1]) - x(OUTAGE[0]):.0f}" height="{HEIGHT}" '
        'fill="#eee"/>',
        text(x(sum(OUTAGE) / 2), y(0.5), "all places", anchor="middle"),
        text(x(sum(OUTAGE) / 2), y(0.5) + 15, "at 30 % errors", anchor="middle"),
        *(
            f'<line x1="{LEFT}" x2="{LEFT + WIDTH}" y1="{y(share):.0f}" y2="{y(share):.0f}" stroke="#999"'
            f' stroke-dasharray="{dashes}"/>' + text(LEFT - 8, y(share) + 4, label, anchor="end")
            for share, label, dashes in ((0.0, "none", ""), (0.5, "half", "2 4"), (1.0, "enough", "2 4"))
        ),
        *(text(x(minute * 60), y(0.0) + 18, f"{minute} min", anchor="middle") for minute in range(0, 21, 5)),
        path(bad, "#c0392b"),
        path(late, "#d68910"),
        path(good, "#1e8449", "6 3"),
        end(bad, f"5 % errors from the start: fail after {bad[-1][0]:.0f} s", "#c0392b"),
        end(late, f"5 % errors after 15 min: fail {late[-1][0] - 900:.0f} s later", "#d68910", "end"),
        f'<circle cx="{x(good[-1][0]):.1f}" cy="{y(1.0):.1f}" r="4" fill="#1e8449"/>',
        text(x(good[-1][0]) + 8, y(1.0) + 16, f"good release: pass after {good[-1][0]:.0f} s", "#1e8449"),
        text(LEFT, y(0.0) + 44, "Evidence for a fail (solid) and for a pass (dashed), as a share of what is needed."),
        "</svg>",
    ]
    target = ROOT / "docs" / "judge.svg"
    target.write_text("\n".join(parts) + "\n", encoding="utf-8")
    print(f"wrote {target.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
