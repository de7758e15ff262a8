# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The tools that decide whether a run of the tests passed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from artifact import undocumented
from check_coverage import branches
from find_python import PythonMissing, find_python, installed
from parts import counted
from tree_copy import shipped

ROOT = Path(__file__).resolve().parents[3]
REPORT = '<testsuites><testsuite tests="7" failures="{failures}" errors="1" skipped="2"/></testsuites>'


@pytest.mark.parametrize(("ok", "outcome"), [(True, (1, 0)), (False, (0, 1))])
def test_a_part_without_a_report_is_one_check(tmp_path: Path, ok: bool, outcome: tuple[int, int]) -> None:
    assert counted(tmp_path / "none.xml", ok) == outcome


def test_the_tests_of_a_report_are_counted(tmp_path: Path) -> None:
    report = tmp_path / "report.xml"
    report.write_text(REPORT.format(failures=1), encoding="utf-8")
    assert counted(report, False) == (3, 2)


def test_a_part_that_failed_with_a_clean_report_is_a_failure(tmp_path: Path) -> None:
    report = tmp_path / "report.xml"
    report.write_text(REPORT.format(failures=0).replace('errors="1"', 'errors="0"'), encoding="utf-8")
    assert counted(report, False) == (5, 1)
    assert counted(report, True) == (5, 0)


def test_the_artifact_holds_what_no_pattern_names() -> None:
    paths = [
        Path(name) for name in ("galaxy.yml", "README.md", "tests/unit/x/test_x.py", "plugins/modules/x.py", "a.tar.gz")
    ]
    kept = [Path("galaxy.yml"), Path("README.md"), Path("plugins/modules/x.py")]
    assert shipped(paths, ["tests/unit", "*.tar.gz"]) == kept


def test_a_plugin_of_ansible_rulebook_that_galaxy_does_not_document_is_named() -> None:
    shown = [
        {
            "content_type": "eda/plugins/event_filter",
            "content_name": "alerts",
            "doc_strings": {"doc": {"description": "x"}},
        },
        {"content_type": "eda/plugins/event_source", "content_name": "alertmanager", "doc_strings": None},
    ]
    found = undocumented({"contents": shown})
    assert "extensions/eda/plugins/event_source/alertmanager.py: Galaxy shows no documentation of it" in found
    assert not [line for line in found if "event_filter/alerts.py" in line]


def test_branches_are_summed_over_the_files_of_a_core() -> None:
    files = {
        "plugins/module_utils/_judge/a.py": {"summary": {"num_branches": 90, "covered_branches": 90}},
        "plugins/module_utils/_judge/b.py": {"summary": {"num_branches": 10, "covered_branches": 0}},
        "plugins/module_utils/_act/c.py": {"summary": {"num_branches": 100, "covered_branches": 0}},
    }
    assert branches(files, ["*/module_utils/_judge/a.py", "*/module_utils/_judge/b.py"]) == 90.0


def test_a_shim_that_does_not_run_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    version = "%d.%d" % sys.version_info[:2]
    shim = tmp_path / "shims" / f"python{version}"
    real = tmp_path / "bin" / f"python{version}"
    for path, text in ((shim, "#!/bin/sh\nexit 127\n"), (real, f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')):
        path.parent.mkdir()
        path.write_text(text, encoding="utf-8")
        path.chmod(0o755)
    monkeypatch.delenv("PYTHON_" + version.replace(".", "_"), raising=False)
    monkeypatch.setenv("PATH", os.pathsep.join(map(str, (shim.parent, real.parent, os.defpath))))
    assert installed(version) == real


def test_a_missing_python_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(PythonMissing, match="python2.1 .* PYTHON_2_1"):
        find_python("2.1")


@pytest.mark.parametrize("level", ["pytest.skip('not here')", "pytest.skip('not here', allow_module_level=True)"])
@pytest.mark.parametrize("ci", [True, False])
def test_a_skip_is_a_failure_in_ci_only(tmp_path: Path, level: str, ci: bool) -> None:
    conftest = (ROOT / "tests/conftest.py").read_text(encoding="utf-8")
    (tmp_path / "conftest.py").write_text(conftest, encoding="utf-8")
    indented = f"def test_it():\n    {level}\n" if "module" not in level else f"{level}\n"
    (tmp_path / "test_it.py").write_text(f"import pytest\n{indented}", encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "--rootdir", tmp_path, "-c", os.devnull, tmp_path],
        env={**os.environ, "CI": str(ci).lower(), "PYTHONPATH": str(ROOT / "tests/tools")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ("skipped in CI" in done.stdout) is ci, done.stdout
    assert (done.returncode in (1, 2)) is ci, done.stdout
