"""The checks of the structure find what they look for."""

import subprocess
from pathlib import Path

ROOT = Path(__file__).parent.parent


def circles(crate: Path) -> tuple[int, str]:
    ended = subprocess.run([ROOT / ".ci" / "circles", crate], stdout=subprocess.PIPE, text=True)
    return ended.returncode, ended.stdout


def write(crate: Path, **files: str) -> None:
    (crate / "src").mkdir(exist_ok=True)
    for name, text in files.items():
        (crate / "src" / f"{name}.rs").write_text(text)


def test_a_circle_is_found_whichever_way_it_is_written(tmp_path: Path) -> None:
    straight = {"lib": "mod a;\nmod b;\n", "a": "use crate::b::B;\n", "b": "pub struct B;\n"}
    write(tmp_path, **straight)
    assert circles(tmp_path) == (0, "")
    for back in ("use crate::a::A;", "use super::a;", "fn f() { crate::a::f() }", "use super::{a::A, other};"):
        write(tmp_path, b=f"{back}\npub struct B;\n")
        code, said = circles(tmp_path)
        assert code == 1
        assert "a circle of 2 files: a, b" in said, back
    # What a module hands on is its own child's, and a comment or a test is no import.
    write(tmp_path, lib="mod a;\nmod b;\npub use a::A;\n", b="use crate::A;\npub struct B;\n")
    assert circles(tmp_path)[0] == 1
    write(tmp_path, b="// use crate::a::A;\npub struct B;\n#[cfg(test)]\nmod tests {\n    use crate::a::A;\n}\n")
    assert circles(tmp_path) == (0, "")


def test_a_child_may_use_what_its_parent_has(tmp_path: Path) -> None:
    write(tmp_path, lib="mod a;\nstruct Own;\n", a="mod b;\npub(crate) use b::B;\nstruct Own;\n")
    (tmp_path / "src" / "a").mkdir()
    (tmp_path / "src" / "a" / "b.rs").write_text("use super::Own;\npub struct B(crate::Own);\n")
    assert circles(tmp_path) == (0, "")
