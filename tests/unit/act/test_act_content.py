# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What becomes of a release's content, and archives that mean harm."""

from __future__ import annotations

import io
import os
import socket
import stat
import tarfile
from pathlib import Path
from typing import List, Literal, Optional

import pytest
from act_place import Place
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ansible_collections.selfheal.delivery.plugins.module_utils._act import content
from ansible_collections.selfheal.delivery.plugins.module_utils._errors import OptionError, PlaceError

Mode = Literal["w", "w:gz", "w:bz2", "w:xz"]


class Member(tarfile.TarInfo):
    """What goes into an archive, with its content."""

    text: str = ""


def member(name: str, text: str = "", *, kind: bytes = tarfile.REGTYPE, to: str = "", mode: int = 0o644) -> Member:
    made = Member(name)
    made.type, made.linkname, made.mode, made.size, made.text = kind, to, mode, len(text), text
    return made


def archive(path: Path, *members: Member, mode: Mode = "w") -> str:
    with tarfile.open(str(path), mode) as tar:
        for one in members:
            tar.addfile(one, io.BytesIO(one.text.encode()))
    return str(path)


SYM, HARD, DIR = tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.DIRTYPE


@pytest.mark.parametrize(
    ("members", "why"),
    [
        ([member("../evil", "x")], "leads outside"),
        ([member("a/../../evil", "x")], "leads outside"),
        ([member("/etc/evil", "x")], "leads outside"),
        ([member("..", kind=DIR)], "leads outside"),
        ([member("link", kind=SYM, to="/etc/passwd")], "leads outside"),
        ([member("a/link", kind=SYM, to="../../out")], "leads outside"),
        ([member("link", kind=SYM, to="..")], "leads outside"),
        ([member("hard", kind=HARD, to="../../etc/passwd")], "leads outside"),
        ([member("hard", kind=HARD, to="/etc/passwd")], "leads outside"),
        ([member("hard", kind=HARD, to="later"), member("later", "x")], "no file before it"),
        ([member("l", kind=SYM, to="f"), member("f", "x"), member("h", kind=HARD, to="l")], "no file before it"),
        ([member("d", kind=SYM, to="."), member("d/evil", "x")], "written through 'd', a link"),
        ([member("f", "x"), member("f/evil", "x")], "written through 'f', a file"),
        ([member("a/b", "x"), member("a", kind=SYM, to=".")], "occurs twice"),
        ([member("f", "x"), member("f", "y")], "occurs twice"),
        ([member("f", "x"), member("./f", "y")], "occurs twice"),
        ([member("f", kind=DIR), member("f", "y")], "occurs twice"),
        ([member(".", "x")], "occurs twice"),
        ([member("dev", kind=tarfile.CHRTYPE)], "neither file, folder nor link"),
        ([member("fifo", kind=tarfile.FIFOTYPE)], "neither file, folder nor link"),
        # each name stays inside on its own, and only following the links leads out
        (
            [
                member("a/b", kind=DIR),
                member("a/b/up", kind=SYM, to="../.."),
                member("out", kind=SYM, to="a/b/up/../secret"),
            ],
            "of the archive leads outside",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "+".join(info.name for info in value),
)
def test_harmful_archives(tmp_path: Path, members: List[Member], why: str) -> None:
    src = archive(tmp_path / "evil.tar", *members)
    place = Place(tmp_path)
    place.good("1.0")
    before = place.picture()
    with pytest.raises(OptionError, match=why):
        place.do(release="2.0", src=src)
    assert place.picture() == before
    assert not (tmp_path / "evil").exists()


def test_a_good_archive(tmp_path: Path) -> None:
    src = archive(
        tmp_path / "good.tar.xz",
        member(".", kind=DIR),
        member("bin", kind=DIR, mode=0o777),
        member("bin/run", "#!", mode=0o6777),
        member("bin/secret", "s", mode=0o0),
        member("bin/again", kind=HARD, to="./bin/run"),
        member("run", kind=SYM, to="bin/run"),
        member("deep/er/still", "x"),
        member("deep", kind=DIR),
        member(".release.json", '{"known_good": {"at": 1}}'),
        mode="w:xz",
    )
    into = tmp_path / "into"
    content.unpack(src, str(into))
    assert sorted(os.listdir(into)) == ["bin", "deep", "run"]
    assert stat.S_IMODE((into / "bin/run").stat().st_mode) == 0o755
    assert stat.S_IMODE((into / "bin/secret").stat().st_mode) == 0o600
    assert (into / "bin/again").read_text() == "#!"
    assert os.readlink(into / "run") == "bin/run"
    assert content.digest(src) == content.digest(str(into))


def broken_archives(folder: Path) -> List[str]:
    made = []
    modes: List[Mode] = ["w", "w:gz", "w:bz2", "w:xz"]
    for mode in modes:
        whole = Path(archive(folder / f"{mode[2:]}.tar", member("f", os.urandom(30000).hex()), mode=mode))
        whole.write_bytes(whole.read_bytes()[:20000])
        made.append(str(whole))
        spoilt = Path(archive(folder / f"{mode[2:]}.spoilt", member("f", os.urandom(30000).hex()), mode=mode))
        bits = bytearray(spoilt.read_bytes())
        bits[len(bits) // 2 : len(bits) // 2 + 400] = bytes(400)
        spoilt.write_bytes(bits)
        if mode != "w":  # a plain archive has no sum over its content
            made.append(str(spoilt))
    (folder / "nonsense").write_text("<html>not found</html>")
    cut = Path(archive(folder / "cut.tar", member("f", "x"), member("g", "y")))
    cut.write_bytes(cut.read_bytes()[:1024])
    (folder / "empty").touch()
    return [*made, str(folder / "nonsense"), str(folder / "empty"), str(cut)]


def test_broken_archives(tmp_path: Path) -> None:
    place = Place(tmp_path)
    place.good("1.0")
    before = place.picture()
    for src in broken_archives(tmp_path):
        with pytest.raises(OptionError, match="is not a whole tar archive"):
            place.do(release="2.0", src=src)
        assert place.picture() == before


def test_the_same_content_from_elsewhere_is_the_same_release(tmp_path: Path) -> None:
    place = Place(tmp_path)
    folder = Path(place.source("1.0", note="hello"))
    (folder / "empty").mkdir()
    os.symlink("note", folder / "link")
    place.deploy("1.0", src=str(folder))
    with tarfile.open(tmp_path / "again.tgz", "w:gz") as tar:
        tar.add(folder, arcname=".")
    assert not place.deploy("1.0", src=str(tmp_path / "again.tgz")).changed
    for change in ("chmod", "text", "link", "name"):
        other = Path(place.source(change, note="hello"))
        (other / "version").write_text("1.0")
        os.symlink("note" if change != "link" else "version", other / "link")
        if change == "chmod":
            (other / "note").chmod(0o755)
        if change == "text":
            (other / "note").write_text("hullo")
        if change == "name":
            (other / "note").rename(other / "noted")
        with pytest.raises(PlaceError, match="is taken"):
            place.deploy("1.0", src=str(other))


def test_odd_sources(tmp_path: Path) -> None:
    place = Place(tmp_path)
    folder = Path(place.source("1.0"))
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(folder / "sock"))
        with pytest.raises(PlaceError):
            place.deploy("1.0", src=str(folder))
    with pytest.raises(PlaceError, match="neither file, folder nor link"):
        content.digest(str(folder))
    assert place.names() == []
    with pytest.raises(OSError, match="No such file"):
        content.digest(str(folder / "nothing"))


names = st.sampled_from(["a", "b", "c.d", "ä", ".release.json"])
trees = st.recursive(
    st.one_of(st.binary(max_size=20), st.sampled_from([None, "a", "b/c"])),
    lambda inner: st.dictionaries(names, inner, max_size=3),
    max_leaves=8,
)


def build(path: Path, tree: object) -> None:
    if isinstance(tree, dict):
        path.mkdir(exist_ok=True)
        for name, inner in tree.items():
            build(path / name, inner)
    elif isinstance(tree, bytes):
        path.write_bytes(tree)
        path.chmod(0o755 if tree[:1] > b"\x80" else 0o644)
    else:
        os.symlink(str(tree or "."), path)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(tree=st.dictionaries(names, trees, max_size=4))
def test_digest_is_the_same_folder_archive_and_unpacked(
    tmp_path_factory: pytest.TempPathFactory, tree: "dict[str, object]"
) -> None:
    folder = tmp_path_factory.mktemp("tree")
    build(folder / "src", tree)
    with tarfile.open(folder / "src.tar", "w") as tar:
        tar.add(folder / "src", arcname=".")
    content.unpack(str(folder / "src"), str(folder / "copied"))
    said = {content.digest(str(folder / name)) for name in ("src", "src.tar", "copied")}
    try:
        content.unpack(str(folder / "src.tar"), str(folder / "unpacked"))
        said.add(content.digest(str(folder / "unpacked")))
    except OptionError as problem:
        assert "leads outside" in str(problem)
    assert len(said) == 1


@pytest.mark.parametrize("wrong", ["", "/etc", "../up", "a/../b", "a//b", ".", "./a", "a\0", ".release.json"])
def test_odd_shared_paths(tmp_path: Path, wrong: str) -> None:
    place = Place(tmp_path)
    with pytest.raises(OptionError, match="shared path"):
        place.deploy("1.0", shared=[wrong])
    assert not place.path.exists()


def test_shared_paths_inside_each_other() -> None:
    for pair in (["log", "log/app"], ["log/app/", "log/"], ["log", "log/"]):
        with pytest.raises(OptionError, match="inside another"):
            content.shared_paths(pair)
    assert content.shared_paths(["log", "logs/"]) == ("log", "logs/")


def test_shared(tmp_path: Path) -> None:
    place = Place(tmp_path)
    for release in ("1.0", "2.0"):
        source = Path(place.source(release, settings=release))
        (source / "up/load").mkdir(parents=True)
        (source / "up/load/first").write_text(release)
        place.deploy(release, src=str(source), shared=["settings", "up/load", "deep/log/"])
    at = place.path
    assert os.readlink(at / "current/up/load") == "../../../shared/up/load"
    # the first release brought the first content; later ones do not overwrite it
    assert (at / "current/settings").read_text() == (at / "shared/settings").read_text() == "1.0"
    assert (at / "current/up/load/first").read_text() == "1.0"
    (at / "current/deep/log/app.log").write_text("line")
    assert (at / "shared/deep/log/app.log").read_text() == "line"
    # going back leaves what is shared as it is now
    place.do(state="promoted", release="2.0")


def test_shared_that_is_nowhere(tmp_path: Path) -> None:
    place = Place(tmp_path)
    with pytest.raises(OptionError, match="shared path '.env' is neither in .*/shared nor in the release"):
        place.deploy("1.0", shared=[".env"])
    assert place.names() == []


def test_shared_below_a_link(tmp_path: Path) -> None:
    place = Place(tmp_path)
    source = place.source("1.0")
    os.symlink("/tmp", Path(source) / "var")
    with pytest.raises(OptionError, match="is a link, so nothing below it can be shared"):
        place.deploy("1.0", src=source, shared=["var/log/"])
    assert place.names() == []


def test_a_shared_link_of_the_release_is_replaced(tmp_path: Path) -> None:
    place = Place(tmp_path)
    source = place.source("1.0")
    os.symlink("/etc", Path(source) / "log")
    place.deploy("1.0", src=source, shared=["log/"])
    assert os.readlink(place.path / "current/log") == "../../shared/log"
    assert (place.path / "shared/log").is_dir()


def test_python_without_xz(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    nothing: Optional[object] = None
    monkeypatch.setitem(sys.modules, "lzma", nothing)
    (tmp_path / "nonsense").write_text("no archive")
    with pytest.raises(OptionError, match="is not a whole tar archive"):
        content.digest(str(tmp_path / "nonsense"))
