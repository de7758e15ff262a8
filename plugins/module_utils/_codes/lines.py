# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A YAML text as values that still know their line, so that whatever is wrong with one can be found in the file.

Aliases and tags of one's own are refused: what stands in the file is what is read, and no small text can unfold into a
large one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Optional, Tuple

from .._errors import OptionError

if TYPE_CHECKING:
    from yaml.nodes import Node

MOST = 4 * 1024 * 1024  # characters
_KINDS = {
    "str": "text",
    "timestamp": "text",
    "int": "a number",
    "float": "a number",
    "bool": "a boolean",
    "null": "nothing",
    "merge": "text",
    "value": "text",
}
_TRUE = ("yes", "true", "on")  # of YAML 1.1, as PyYAML and Ansible read it


class Malformed(OptionError):
    """The text is not YAML, or uses what is refused here; `line` says where, counted from 1."""

    def __init__(self, line: int, problem: str) -> None:
        self.line = line
        self.problem = problem
        super().__init__(f"line {line}: {problem}", mend="Correct the YAML")


@dataclass(frozen=True)
class Item:
    """One value. `kind` is in the words of the messages; `text` is a scalar as it is written, `items` a list's values,
    `pairs` a mapping's keys and values, in their order and with what stands there twice."""

    line: int
    kind: str
    text: str = ""
    items: Tuple["Item", ...] = ()
    pairs: Tuple[Tuple["Item", "Item"], ...] = ()

    @property
    def true(self) -> bool:
        return self.text.lower() in _TRUE


def read_items(text: str) -> Item:
    """The one document in `text`; raises Malformed."""
    import yaml

    class Loader(yaml.SafeLoader):
        def compose_node(self, parent: Optional["Node"], index: int) -> Optional["Node"]:
            if self.check_event(yaml.AliasEvent):
                raise Malformed(self.peek_event().start_mark.line + 1, "aliases (*name) are not taken: write it out")
            return super().compose_node(parent, index)

    if len(text) > MOST:
        raise Malformed(1, f"the text has {len(text)} characters, at most {MOST} are taken")
    try:
        root = yaml.compose(text, Loader)
        return Item(1, "nothing") if root is None else _item(root)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise Malformed(mark.line + 1 if mark else 1, ", ".join(filter(None, (error.context, error.problem)))) from None
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise Malformed(line, f"the character U+{error.character:04X} is not allowed in YAML") from None
    except RecursionError:
        raise Malformed(1, "it is nested too deeply") from None


def _item(node: "Node") -> Item:
    from yaml.nodes import MappingNode, ScalarNode, SequenceNode

    line = node.start_mark.line + 1
    name = node.tag.rpartition(":")[2] if node.tag.startswith("tag:yaml.org,2002:") else ""
    if isinstance(node, MappingNode) and name == "map":
        return Item(line, "a mapping", pairs=tuple((_item(key), _item(value)) for key, value in node.value))
    if isinstance(node, SequenceNode) and name == "seq":
        return Item(line, "a list", items=tuple(_item(value) for value in node.value))
    if isinstance(node, ScalarNode) and name in _KINDS:
        return Item(line, _KINDS[name], text=node.value)
    raise Malformed(line, f"the tag {node.tag!r} is not taken here")
