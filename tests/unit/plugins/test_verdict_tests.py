# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A verdict in `when`: each verdict is exactly one of the three, and what has none is never an answer."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Mapping

import pytest
from ansible.errors import AnsibleFilterError

from ansible_collections.selfheal.delivery.plugins.module_utils._judge.model import FAIL, INCONCLUSIVE, PASS, Verdict
from ansible_collections.selfheal.delivery.plugins.module_utils._judge.recovery import (
    NOT_RECOVERED,
    RECOVERED,
    UNVERIFIED,
)
from ansible_collections.selfheal.delivery.plugins.test.verdict import TestModule as Verdicts

TESTS = Verdicts().tests()
MEANS = {
    PASS: "passing",
    RECOVERED: "passing",
    FAIL: "failing",
    NOT_RECOVERED: "failing",
    INCONCLUSIVE: "inconclusive",
    UNVERIFIED: "inconclusive",
}

PLAY = """
- hosts: localhost
  gather_facts: false
  vars:
    bake: {verdict: fail, reason: baseline, gates: [{gate: errors, verdict: fail}, {gate: slow, verdict: pass}]}
  tasks:
    - ansible.builtin.assert:
        that:
          - bake is selfheal.delivery.failing
          - bake is not selfheal.delivery.passing
          - bake.gates | select('selfheal.delivery.passing') | map(attribute='gate') == ['slow']
    - ansible.builtin.command: "false"
      when: false
      register: bake
    - ansible.builtin.debug:
        msg: "{{ ['un', 'said'] | join }}"
      when: bake is not selfheal.delivery.failing
"""


@pytest.mark.parametrize("verdict", MEANS)
def test_each_verdict_is_one_of_the_three(verdict: str) -> None:
    answers = {name: test({"verdict": verdict, "changed": False}) for name, test in TESTS.items()}
    assert [name for name, answer in answers.items() if answer] == [MEANS[verdict]]


def test_a_bare_verdict_will_do() -> None:
    assert TESTS["failing"](Verdict(FAIL, "errors").as_dict())


def test_a_gate_that_failed_its_task_still_says_so() -> None:
    assert TESTS["failing"]({"failed": True, "verdict": FAIL})


@pytest.mark.parametrize("name", TESTS)
@pytest.mark.parametrize(
    ("result", "said"),
    [
        ("pass", "expects a verdict or a registered result, not str"),
        ([{"verdict": PASS}], "not list"),
        (None, "not NoneType"),
        ({}, "register the result of canary_bake or metric_gate"),
        ({"skipped": True}, "was skipped"),
        ({"failed": True, "msg": "wrong option"}, "the registered task failed"),
        ({"unreachable": True}, "was unreachable"),
        ({"results": [{"verdict": PASS}]}, "test each of its results"),
        ({"verdict": "good"}, "does not know the verdict 'good'"),
        ({"verdict": [PASS]}, "does not know the verdict"),
    ],
)
def test_what_has_no_verdict_is_an_error_that_names_the_test(name: str, result: object, said: str) -> None:
    with pytest.raises(AnsibleFilterError, match=f"selfheal.delivery.{name}") as raised:
        TESTS[name](result)
    assert said in str(raised.value)


def test_a_play_uses_them(tmp_path: Path, ansible_env: Mapping[str, str]) -> None:
    play = tmp_path / "play.yml"
    play.write_text(PLAY)
    command = [str(Path(sys.executable).with_name("ansible-playbook")), "-i", "localhost,", "-c", "local", str(play)]
    done = subprocess.run(command, env=dict(ansible_env), capture_output=True, text=True, check=False)
    output = done.stdout + done.stderr
    assert done.returncode != 0
    assert "was skipped" in output and "unsaid" not in output, output
    assert "All assertions passed" in output


def test_each_has_its_documentation() -> None:
    folder = Path(__file__).resolve().parents[3] / "plugins/test"
    assert sorted(TESTS) == sorted(path.stem for path in folder.glob("*.yml"))
