# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The guide's examples are ones that work: its policy is a policy, with every key, and its playbooks are playbooks."""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import fields
from pathlib import Path
from typing import Any, List, Mapping

import pytest
import yaml

from ansible_collections.selfheal.delivery.plugins.module_utils._judge.presets import DEFAULT_PRESET
from ansible_collections.selfheal.delivery.plugins.module_utils._judge.spec import POLICY_KEYS, BakeSpec, parse_policy

ROOT = Path(__file__).resolve().parents[3]
PAGE = (ROOT / "docs/guide.md").read_text(encoding="utf-8")
INVENTORY, *PLAYBOOKS = re.findall(r"```yaml\n(.*?)```", PAGE, flags=re.DOTALL)
POLICY: Mapping[str, Any] = yaml.safe_load(INVENTORY)["all"]["vars"]["delivery_services"]["shop"]


def test_the_policy_is_one_and_has_every_key() -> None:
    policy = parse_policy(POLICY, "production/shop")
    assert set(POLICY) == set(POLICY_KEYS)
    assert set(POLICY["bake"]) == {field.name for field in fields(BakeSpec)}
    assert (policy.bake, policy.alpha, policy.preset) == (BakeSpec(), 0.01, DEFAULT_PRESET)


@pytest.mark.parametrize("number", range(len(PLAYBOOKS)))
def test_a_playbook_of_the_guide_passes_the_syntax_check(
    number: int, tmp_path: Path, ansible_env: Mapping[str, str]
) -> None:
    (tmp_path / "hosts.yml").write_text(INVENTORY)
    (tmp_path / "play.yml").write_text(PLAYBOOKS[number])
    command: List[str] = [str(Path(sys.executable).with_name("ansible-playbook")), "-i", "hosts.yml"]
    given = ["-e", "release=2.0.1 src=shop.tar.gz", "--syntax-check", "play.yml"]
    done = subprocess.run(
        [*command, *given], cwd=tmp_path, env=dict(ansible_env), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("name", sorted(path.stem for path in (ROOT / "playbooks").glob("*.yml")))
def test_every_playbook_is_in_the_guide(name: str) -> None:
    assert f"selfheal.delivery.{name}" in PAGE
