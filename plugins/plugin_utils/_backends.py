# SPDX-FileCopyrightText: selfheal.delivery contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which modules stand for the backend that a policy names, and what of a task is theirs."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Mapping, Optional, Tuple

from ansible.plugins.action import ActionBase

from ansible_collections.selfheal.delivery.plugins.module_utils._act.kube import options as kube
from ansible_collections.selfheal.delivery.plugins.module_utils._act.kube.connection import CONNECTION
from ansible_collections.selfheal.delivery.plugins.module_utils._act.wishes import CONTROLLER, REQUIRED_IF, WISHES
from ansible_collections.selfheal.delivery.plugins.module_utils._errors import OptionError, nearest
from ansible_collections.selfheal.delivery.plugins.plugin_utils._inside import Inside, done, runs_here
from ansible_collections.selfheal.delivery.plugins.plugin_utils._play import Facts, plain

# Each task has a process of its own, forked from one that has loaded this. What it would need is loaded here, once.
with suppress(ImportError):  # and where it is missing, it is said when it is needed
    import_module("urllib3")

_CLUSTER = tuple(name for option, spec in CONNECTION.items() for name in (option, *spec.get("aliases", ())))


@dataclass(frozen=True)
class BackendModules:
    """`where` are the options that say which place it is: all that an info module takes."""

    change: str
    info: str
    where: Tuple[str, ...]
    named: bool = False  # does what is stored there carry the service's name?
    shares: bool = False  # can old and new serve side by side in one place?
    fixed: Tuple[Tuple[str, str], ...] = ()  # what the info module has to be told besides


MODULES: Mapping[str, BackendModules] = {
    "deployment": BackendModules(
        "kubernetes_rollout", "kubernetes_rollout_info", (*_CLUSTER, "namespace", "name", "kind"), shares=True
    ),
    "argo_rollout": BackendModules(
        "argo_rollout",
        "kubernetes_rollout_info",
        (*_CLUSTER, "namespace", "name"),
        shares=True,
        fixed=(("kind", "Rollout"),),
    ),
    "helm": BackendModules("helm_release", "helm_release_info", (*_CLUSTER, "namespace", "name", "binary_path")),
    "git": BackendModules(
        "git_release", "git_release_info", ("repository", "branch", "path", "key_file", "timeout"), named=True
    ),
}
FLAG = "flag"  # which is turned by another task of ours, that is told what a release's wishes are for a flag
COLLECTION = "selfheal.delivery."
# where the options of each backend's module are; only those of the one in use are loaded
_ROOMS = {"deployment": "kube", "argo_rollout": "argo", "helm": "helm", "git": "git", FLAG: "flag"}
_REQUESTS = ("deployment", "argo_rollout")  # what their modules do is a few requests, and no program is run
PLACEHOLDER = "{release}"


def changed(action: ActionBase, options: Facts, given: Facts, task_vars: Facts) -> Facts:
    """Change a place of this backend, as the task `action` wishes."""
    if options["backend"] == FLAG:
        from ansible_collections.selfheal.delivery.plugins.plugin_utils._flag_place import turned

        return turned(action, _own(options), given, task_vars, options)
    module, arguments = change_of(options["backend"], options, given)
    return _run(action, options["backend"], module, arguments, task_vars)


def looked_at(action: ActionBase, options: Facts, task_vars: Facts) -> Facts:
    """What a place of this backend runs."""
    if options["backend"] == FLAG:
        from ansible_collections.selfheal.delivery.plugins.plugin_utils._flag_place import seen

        return seen(action, _own(options), task_vars)
    module, arguments = info_of(options["backend"], options)
    return _run(action, options["backend"], module, arguments, task_vars)


def _run(action: ActionBase, backend: str, module: str, arguments: Facts, task_vars: Facts) -> Facts:
    inside = _inside(backend, info=module.endswith("_info")) if runs_here(action) else None
    if inside is not None:
        try:
            return done(inside, arguments, dry=bool(action._task.check_mode))
        except ImportError:
            pass  # the Python that the place's modules run in may have the library
    result: Facts = action._execute_module(module_name=module, module_args=arguments, task_vars=task_vars)
    return result


def _inside(backend: str, *, info: bool) -> Optional[Inside]:
    """What the backend's module does, where it can be done without one."""
    if backend not in _REQUESTS:
        return None
    if info:
        return Inside(kube.INFO_ARGUMENTS, (), lambda params, _dry: kube.look(params))
    room = import_module(_room(backend))
    return Inside(room.ARGUMENTS, REQUIRED_IF, lambda params, dry: room.change(params, dry=dry))


def _room(backend: str) -> str:
    return f"ansible_collections.selfheal.delivery.plugins.module_utils._act.{_ROOMS[backend]}.options"


def change_of(backend: str, options: Facts, given: Facts) -> Tuple[str, Facts]:
    """The module that changes a place of this backend, and its options: the task's wishes and backend_options."""
    modules, own = MODULES[backend], filled(_own(options), str(options.get("release") or ""))
    wishes = {name: value for name, value in given.items() if name in WISHES or name == "template"}
    if modules.named:
        wishes["service"] = options["service"]
    if modules.shares:
        wishes["share"] = options["share"]
        if backend == "deployment":
            # what was begun beside the stable one is found again in every later task
            own.setdefault("strategy", "canary")
    elif options["share"] < 100:
        raise OptionError(f"backend {backend} cannot give a release a share of a place's traffic", mend="Remove share")
    if backend == "helm":
        from ansible_collections.selfheal.delivery.plugins.module_utils._act.helm.options import packed

        own = packed(own)
    return COLLECTION + modules.change, {**own, **wishes}


def info_of(backend: str, options: Facts) -> Tuple[str, Facts]:
    """The module that looks at a place of this backend, and its options."""
    modules = MODULES[backend]
    where = {name: value for name, value in _own(options).items() if name in modules.where}
    named = {"service": options["service"]} if modules.named else {}
    return COLLECTION + modules.info, {**where, **dict(modules.fixed), **named}


def filled(thing: Any, release: str) -> Any:
    """`thing` with the text {release} in it replaced: replaced, and never rendered, because a release is data."""
    if isinstance(thing, str):
        return thing.replace(PLACEHOLDER, release) if release else thing
    if isinstance(thing, dict):
        return {key: filled(value, release) for key, value in thing.items()}
    return [filled(value, release) for value in thing] if isinstance(thing, list) else thing


def _own(options: Facts) -> Facts:
    own: Facts = plain(options["backend_options"])
    if not own:
        raise OptionError(
            f"backend {options['backend']} needs backend_options", mend="They say which object it is, and where"
        )
    foreign = sorted(name for name in own if name in WISHES or name in CONTROLLER)
    if foreign:
        raise OptionError(
            f"backend_options has {', '.join(foreign)}, which the task itself says", mend="Remove it there"
        )
    room = import_module(_room(options["backend"]))
    known = [name for option, spec in room.ARGUMENTS.items() for name in (option, *spec.get("aliases", ()))]
    for name in own:
        if name not in known:
            raise OptionError(f"backend {options['backend']} has no option {name!r}{nearest(name, known)}")
    return own
