# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The real servers of the tests that are written in Go, built once from locked modules, or found on the PATH.

Each module in `tests/testbed` has its `tool` lines and a committed go.sum of its own, because what they depend on
differs. Builds are kept outside the checkout, one for each content of the lock.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import Iterator, List, Optional, Tuple

from environment import ROOT, cache
from packages import install

# program -> the module that it is built in, and the name that Go gives it there, where these differ
BUILT_AS = {
    "amtool": ("alertmanager", "amtool"),
    "etcd": ("etcd", "server"),
    "kube-apiserver": ("kubernetes", "kube-apiserver"),
    "kube-controller-manager": ("kubernetes", "kube-controller-manager"),
    "kube-scheduler": ("kubernetes", "kube-scheduler"),
    "kubectl": ("kubernetes", "kubectl"),
    "promtool": ("prometheus", "promtool"),
    "rollouts-controller": ("argo-rollouts", "rollouts-controller"),
}

OWN_PLACE = "/usr/local/go/bin"  # where Go's own archive is unpacked
PROGRAMS = (*BUILT_AS, "alertmanager", "kwok", "helm", "prometheus")
SYSTEM = ("git", "openssl")  # programs that any system has a package of, called the same

# module -> where in which Go module the definitions of its kinds of objects are
CRDS = {
    "argo-rollouts": ("github.com/argoproj/argo-rollouts", "manifests/crds"),
    "gateway-api": ("sigs.k8s.io/gateway-api", "config/crd/standard"),
}


class ToolMissing(Exception):
    """A real component that can neither be found nor be built here."""


def go_tool(name: str) -> Path:
    """The program `name`; raises ToolMissing with what has to be installed.

    What is already here comes first: the folder `$KUBEBUILDER_ASSETS`, then the PATH.
    """
    there = shutil.which(name, path=os.environ.get("KUBEBUILDER_ASSETS", "")) or shutil.which(name)
    if there:
        return Path(there)
    module_name, built_as = BUILT_AS.get(name, (name, name))
    with _locked(module_name) as (module, folder):
        if not (folder / built_as).exists():
            _build(module, folder)
    return folder / built_as


def crds(module_name: str) -> List[Path]:
    """The CustomResourceDefinitions (YAML) of a module in `CRDS`; raises ToolMissing."""
    with _locked(module_name) as (module, folder):
        kept = folder / "crds"
        if not kept.exists():
            path, inside = CRDS[module_name]
            _go(module, "mod", "download", path)
            source = Path(_go(module, "list", "-m", "-f", "{{.Dir}}", path).strip(), inside)
            partial = folder / "partial"
            partial.mkdir(exist_ok=True)
            for file in source.glob("*.yaml"):
                if "\nkind: CustomResourceDefinition\n" in file.read_text():
                    (partial / file.name).write_bytes(file.read_bytes())
            partial.rename(kept)
    return sorted(kept.iterdir())


@contextmanager
def _locked(module_name: str) -> Iterator[Tuple[Path, Path]]:
    """The module and the folder of what is built of it, while no other process builds there."""
    module = ROOT / "tests" / "testbed" / module_name
    lock = (module / "go.mod").read_bytes() + (module / "go.sum").read_bytes()
    folder = cache() / "go" / f"{module_name}-{hashlib.sha256(lock).hexdigest()[:12]}"
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / ".lock", "w", encoding="utf-8") as guard:
        fcntl.flock(guard, fcntl.LOCK_EX)
        shutil.rmtree(folder / "partial", ignore_errors=True)
        yield module, folder


def _build(module: Path, folder: Path) -> None:
    """Build every program of the module into `folder`, all or none."""
    print(f"building {module.name}, once ...", file=sys.stderr, flush=True)
    partial = folder / "partial"
    _go(module, "build", "-mod=readonly", "-ldflags=-s -w", "-o", f"{partial}/", "tool")
    for program in partial.iterdir():
        os.replace(program, folder / program.name)
    partial.rmdir()


def _go(module: Path, *arguments: str) -> str:
    """What `go …` prints, called in the module's folder."""
    command = [find_go(module), *arguments]
    done = subprocess.run(command, cwd=module, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ToolMissing(f"{module.name} could not be built: {done.stderr[-2000:]}")
    return done.stdout


def find_go(module: Path) -> str:
    """A Go that can build the module, installed when there is none and the machine's package manager may."""
    wanted = next(line for line in (module / "go.mod").read_text().splitlines() if line.startswith("go "))[3:]
    why = _unfit(wanted)
    if why:
        install("golang-go" if shutil.which("apt-get") else "golang")
        why = _unfit(wanted)
    if why:
        raise ToolMissing(f"{module.name} is not on the PATH, and cannot be built: {why}; or install {module.name}.")
    return _go_here() or "go"


def _go_here() -> Optional[str]:
    """The Go on the PATH, or where its own installer puts it."""
    return shutil.which("go") or shutil.which("go", path=OWN_PLACE)


def _unfit(wanted: str) -> str:
    """Why the Go that is here cannot build what wants the version `wanted`, and what to do; nothing when it can."""
    go = _go_here()
    if go is None:
        return f"Go is missing: install Go {wanted} or newer"
    # asked outside the module, as the version that is installed, not one that the module would make it fetch
    about = [go, "env", "GOVERSION", "GOTOOLCHAIN"]
    done = subprocess.run(about, cwd="/", stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    version, fetching = [*done.stdout.splitlines(), "", ""][:2]
    if _numbers(version) >= _numbers(wanted):
        return ""
    if _numbers(version) < (1, 21):
        return f"{go} is {version or 'broken'}, too old to fetch a newer one by itself: install Go {wanted} or newer"
    if fetching == "local":
        return f"{go} is {version}, and GOTOOLCHAIN=local forbids to fetch {wanted}: set GOTOOLCHAIN=auto or install it"
    return ""


def _numbers(version: str) -> Tuple[int, ...]:
    """(1, 26, 8) of `go1.26.8 X:something`."""
    return tuple(int(number) for number in re.findall(r"\d+", version.partition(" ")[0])[:3])


def prepare() -> List[str]:
    """Find or build every program that the tests run, saying how long each took; what is missing, one a line."""
    missing = []
    for name in SYSTEM:
        if not shutil.which(name):
            install(name)
        if not shutil.which(name):
            missing.append(f"{name} is missing: install the package {name}.")
    for name, prepared in [*((name, go_tool) for name in PROGRAMS), *((name, crds) for name in CRDS)]:
        begun = time.monotonic()
        try:
            prepared(name)
        except ToolMissing as error:
            missing.append(str(error))
        else:
            print(f"{name:<24} {time.monotonic() - begun:>6.1f} s", flush=True)
    return missing


def main(names: List[str]) -> int:
    """The path of each program in `names`; without any, prepare them all."""
    try:
        missing = [] if names else prepare()
        for name in names:
            print(go_tool(name))
    except ToolMissing as error:
        missing = [str(error)]
    print(*missing, sep="\n", end="\n" if missing else "", file=sys.stderr)
    return 1 if missing else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
