# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The text of a YAML document of flags: read as its readers do, changed line by line, without losing a comment.

Only what differs is touched: a scalar in its place, a member on a line of its own. A member that goes leaves its
comments behind. What cannot be changed like that is refused. Aliases are not taken at all, because a change in one
place would be one in several.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Callable, Dict, Iterator, List, Mapping, Tuple

if TYPE_CHECKING:
    from yaml.nodes import MappingNode, Node, ScalarNode

Edit = Tuple[int, int, str]  # from, to, and what comes there
Write = Callable[[object], str]

_WORD = re.compile(r"[A-Za-z][A-Za-z0-9_.-]*$")
_COMMENT = re.compile(r"(?:^|(?<=\s))#[^\r\n]*", re.MULTILINE)
_CORE_BOOLS = ("true", "false")
_WORDS = ("true", "false", "yes", "no", "on", "off", "y", "n", "null")  # that some reader takes for no text
_DEEPEST = 50


class Broken(Exception):
    """Why the text is not taken, for a person."""


def read(text: str, *, core: bool) -> Dict[str, Any]:
    """The object that `text` holds. With `core`, as Go's readers do, only true and false are truth values, and each key
    is a text; without, as PyYAML, `on` and `no` are, too, and a key that is no text is refused."""
    _check_tokens(text)
    root = _root(text)
    found = _value(root, core, 0)
    if not isinstance(found, dict):
        raise Broken("does not hold an object of flags")
    return found


def change(text: str, old: Mapping[str, Any], new: Mapping[str, Any], dumps: Write) -> str:
    """`text`, which holds `old`, so that it holds `new`. `dumps` writes JSON on one line. The caller proves it."""
    for start, end, there in sorted(_edits(text, _root(text), old, new, dumps), reverse=True):
        text = text[:start] + there + text[end:]
    return text


def comments(text: str) -> List[str]:
    """All comments, in order of their words."""
    return sorted(found for start, end in _gaps(text) for found in _found(text, start, end))


def _loader() -> Any:
    import yaml

    return getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def _root(text: str) -> "Node":
    import yaml

    try:
        root = yaml.compose(text, Loader=_loader())
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise Broken(f"is not YAML: {error.problem}, line {mark.line + 1 if mark else 1}") from None
    except yaml.YAMLError:
        raise Broken("is not YAML") from None
    except RecursionError:
        raise Broken("is nested too deeply") from None
    if root is None:
        raise Broken("is empty")
    return root


def _tokens(text: str) -> List[Any]:
    import yaml

    try:
        return list(yaml.scan(text, Loader=_loader()))
    except yaml.YAMLError:
        return []  # composing it says what is wrong


def _check_tokens(text: str) -> None:
    """No aliases, and nothing so deep that composing it, which libyaml's binding does by recursion, would crash."""
    import yaml

    opening = (
        yaml.BlockSequenceStartToken,
        yaml.BlockMappingStartToken,
        yaml.FlowSequenceStartToken,
        yaml.FlowMappingStartToken,
    )
    closing = (yaml.BlockEndToken, yaml.FlowSequenceEndToken, yaml.FlowMappingEndToken)
    depth = 0
    try:
        for token in yaml.scan(text, Loader=_loader()):
            depth += isinstance(token, opening) - isinstance(token, closing)
            if depth > 2 * _DEEPEST:
                raise Broken("is nested too deeply")
            if isinstance(token, yaml.AliasToken):
                raise Broken(
                    f"has an alias (*{token.value}) in line {token.start_mark.line + 1}: write it out, because a change"
                    " in one place would be one in several"
                )
    except yaml.YAMLError:
        return  # composing it says what is wrong


def _value(node: "Node", core: bool, depth: int) -> Any:
    from yaml.nodes import MappingNode, ScalarNode, SequenceNode

    if depth > _DEEPEST:
        raise Broken("is nested too deeply")
    kind = node.tag.rpartition(":")[2] if node.tag.startswith("tag:yaml.org,2002:") else node.tag
    if isinstance(node, MappingNode) and kind == "map":
        return _members(node, core, depth)
    if isinstance(node, SequenceNode) and kind == "seq":
        return [_value(item, core, depth + 1) for item in node.value]
    if isinstance(node, ScalarNode):
        return _scalar(node, kind, core)
    raise Broken(f"has the tag {node.tag!r} in line {node.start_mark.line + 1}, which is not taken")


def _members(node: "MappingNode", core: bool, depth: int) -> Dict[str, Any]:
    found: Dict[str, Any] = {}
    for key, value in node.value:
        line = key.start_mark.line + 1
        if not hasattr(key, "style") or isinstance(key.value, list) or key.tag.endswith(":merge"):
            raise Broken(f"has a key in line {line} that is no plain text")
        if not core and not key.tag.endswith(":str"):
            raise Broken(f"has the key {key.value} in line {line}, which is read as no text: quote it")
        if key.value in found:
            raise Broken(f"has the key {key.value!r} twice, the second time in line {line}")
        found[key.value] = _value(value, core, depth + 1)
    return found


def _scalar(node: "ScalarNode", kind: str, core: bool) -> Any:
    from yaml.constructor import SafeConstructor

    text: str = node.value
    if kind in ("str", "timestamp", "value", "merge") or (kind == "bool" and core and text.lower() not in _CORE_BOOLS):
        return text
    constructor: Any = SafeConstructor()  # not typed
    makes: Dict[str, Callable[[], Any]] = {
        "null": lambda: None,
        "bool": lambda: text.lower() in ("true", "yes", "on"),
        "int": lambda: constructor.construct_yaml_int(node),
        "float": lambda: constructor.construct_yaml_float(node),
    }
    try:
        return makes[kind]()
    except (KeyError, ValueError):
        raise Broken(f"has the tag {node.tag!r} in line {node.start_mark.line + 1}, which is not taken") from None


def _edits(text: str, node: "Node", old: Any, new: Any, dumps: Write) -> Iterator[Edit]:
    """What has to be written where, each place once."""
    from yaml.nodes import MappingNode

    if dumps(old) == dumps(new):
        return
    staying = [key for key in old if key in new] if isinstance(old, dict) and isinstance(new, dict) else []
    if not isinstance(node, MappingNode) or not staying or (node.flow_style and old.keys() != new.keys()):
        yield node.start_mark.index, _end(text, node), _written(text, node, new, dumps)
        return
    last = node.value[0]
    for key, value in node.value:
        if key.value in new:
            last = (key, value)
            yield from _edits(text, value, old[key.value], new[key.value], dumps)
        else:
            yield _removal(text, key, value)
    added = [key for key in new if key not in old]
    if added:
        at = _line_end(text, _end(text, last[1]))
        margin = _newline(text) + " " * node.value[0][0].start_mark.column
        yield at, at, "".join(f"{margin}{_key(key, dumps)}: {dumps(new[key])}" for key in added)


def _removal(text: str, key: "Node", value: "Node") -> Edit:
    """Take a member's lines out, but for the comments in them."""
    start = text.rfind("\n", 0, key.start_mark.index) + 1
    end = _line_end(text, _end(text, value))
    margin = text[start : key.start_mark.index]
    kept = [found for low, high in _gaps(text) for found in _found(text, max(low, start), min(high, end))]
    there = _newline(text).join(margin + comment for comment in kept)
    if not there:  # the line goes, too
        end = min(len(text), end + len(_newline(text)))
    return start, end, there


def _written(text: str, node: "Node", new: Any, dumps: Write) -> str:
    start = node.start_mark.index
    line = text[text.rfind("\n", 0, start) + 1 : start]
    if getattr(node, "flow_style", True) is False and not line.strip():
        return f"  {dumps(new)}"  # a block may stand right below its key, one line must be further in
    if isinstance(new, str) and text[start : start + 1].isalpha() and _plain(new):
        return new
    return dumps(new)


def _plain(word: str) -> bool:
    return bool(_WORD.match(word)) and word.lower() not in _WORDS


def _key(key: str, dumps: Write) -> str:
    return key if _plain(key) else dumps(key)


def _end(text: str, node: "Node") -> int:
    """Where a node's own text ends: that of a block reaches to whatever comes next."""
    from yaml.nodes import MappingNode, SequenceNode

    if isinstance(node, (MappingNode, SequenceNode)) and not node.flow_style and node.value:
        last = node.value[-1]
        return _end(text, last[1] if isinstance(node, MappingNode) else last)
    start, end = node.start_mark.index, node.end_mark.index
    return start + len(text[start:end].rstrip())


def _line_end(text: str, at: int) -> int:
    end = text.find("\n", at)
    end = len(text) if end < 0 else end
    return end - 1 if end and text[end - 1] == "\r" and end > at else end


def _newline(text: str) -> str:
    return "\r\n" if "\r\n" in text else "\n"


def _gaps(text: str) -> Iterator[Tuple[int, int]]:
    """What lies between the tokens: white space and comments."""
    at = 0
    for token in _tokens(text):
        if token.start_mark.index > at:
            yield at, token.start_mark.index
        at = max(at, token.end_mark.index)
    yield at, len(text)


def _found(text: str, start: int, end: int) -> List[str]:
    return [found.strip() for found in _COMMENT.findall(text, start, end)] if start < end else []
