"""What of the host is shown: the caller's Python, and nothing around it."""

from __future__ import annotations

import os
import sys
import venv
from pathlib import Path

import pytest

from agent_magics.sandbox import PythonEnv, SandboxUnavailable, open_sandbox
from agent_magics.sandbox._mounts import PathRefused, bwrap_arguments, python_mounts


def shown(python: PythonEnv, private: Path) -> list[str]:
    """Paths that are bound, of the arguments."""
    return [mount.path for mount in python_mounts(python, private) if mount.kind == "bind"]


def make_prefix(path: Path) -> PythonEnv:
    (path / "bin").mkdir(parents=True)
    (path / "lib/python3.11").mkdir(parents=True)
    (path / "bin/python").write_text("")
    return PythonEnv(str(path / "bin/python"), (str(path),))


def test_prefix(tmp_path: Path) -> None:
    python = make_prefix(tmp_path / "env")
    assert shown(python, tmp_path / "session") == [f"{tmp_path}/env/bin", f"{tmp_path}/env/lib"]


@pytest.mark.parametrize(
    "where", ["/", "/root", "/home", "/etc", "/var", "/tmp", "/proc/1", "/sys"]
)
def test_never(where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agent_magics.sandbox._mounts._is_environment", lambda prefix: True)
    assert shown(PythonEnv("/usr/bin/python3", (where,)), tmp_path) == []
    assert shown(PythonEnv("/usr/bin/python3", (where + "/",)), tmp_path) == []
    (tmp_path / "link").symlink_to(where)
    assert shown(PythonEnv("/usr/bin/python3", (str(tmp_path / "link"),)), tmp_path / "s") == []


def test_never_the_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = tmp_path / "people/me"
    python = make_prefix(home)
    monkeypatch.setenv("HOME", str(home))
    session = tmp_path / "session"
    with pytest.raises(PathRefused):
        python_mounts(PythonEnv(str(home), (str(home),)), session)
    assert shown(PythonEnv("/usr/bin/python3", (str(home), str(home.parent))), session) == []
    # the interpreter's file alone is harmless
    assert shown(python, session) == [python.executable]


def test_what_conda_brings(tmp_path: Path) -> None:
    env = tmp_path / "env"
    python = make_prefix(env)
    names = {"ssl/cacert.pem", "plugins", "x86_64-conda-linux-gnu", "share/proj", "etc/fonts"}
    names |= {"share/mine", "ssl/private", "etc/conda", "var", "pkgs", "envs", "conda-meta"}
    for name in names:
        (env / name).mkdir(parents=True)
    (env / "lib/python3.11/site-packages/mine-1.dist-info").mkdir(parents=True)
    found = {path.removeprefix(f"{env}/") for path in shown(python, tmp_path / "s")}
    needed = {"ssl/cacert.pem", "plugins", "x86_64-conda-linux-gnu", "share/proj", "etc/fonts"}
    assert found == {"bin", "lib", "share/mine", *needed}
    (env / "conda-meta").rmdir()  # then they may be anything
    found = {path.removeprefix(f"{env}/") for path in shown(python, tmp_path / "s")}
    assert found == {"bin", "lib", "share/mine", "share/proj", "etc/fonts"}


def test_a_base_whose_packages_are_not_used(tmp_path: Path) -> None:
    base, env = tmp_path / "base", tmp_path / "env"
    make_prefix(base)
    python = make_prefix(env)
    python = PythonEnv(python.executable, (str(env), str(base)))
    packages = base / "lib/python3.11/site-packages"
    packages.mkdir()

    def hidden(python: PythonEnv) -> list[str]:
        mounts = python_mounts(python, tmp_path / "s", own_system=False)
        return [mount.path for mount in mounts if mount.kind.startswith("hide")]

    assert hidden(python) == []
    (env / "pyvenv.cfg").write_text("home = x\ninclude-system-site-packages = false\n")
    assert hidden(python) == [str(packages)]
    assert hidden(PythonEnv(python.executable, (*python.prefixes, str(packages)))) == []
    (env / "pyvenv.cfg").write_text("home = x\ninclude-system-site-packages = TRUE\n")
    assert hidden(python) == []


def test_an_environment_in_usr(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """/usr is shown as a whole; an environment in it as if it were elsewhere."""
    monkeypatch.setattr("agent_magics.sandbox._mounts._SYSTEM", (str(tmp_path / "usr"),))
    env = tmp_path / "usr/local/env"
    python = make_prefix(env)
    (env / "pip.conf").write_text("password")
    mounts = python_mounts(python, tmp_path / "s", own_system=False)
    steps = [(mount.kind, mount.path) for mount in mounts]
    assert steps[0] == ("cover", str(env))
    assert steps[1:] == [("bind", f"{env}/bin"), ("bind", f"{env}/lib")]
    arguments = bwrap_arguments(mounts, len, str)
    assert arguments[:2] == ["--tmpfs", str(env)]
    assert arguments[-2:] == ["--remount-ro", str(env)]


def test_never_what_holds_the_session(tmp_path: Path) -> None:
    make_prefix(tmp_path / "env")
    python = PythonEnv("/usr/bin/python3", (str(tmp_path / "env"),))
    both = [f"{tmp_path}/env/bin", f"{tmp_path}/env/lib"]
    assert shown(python, tmp_path / "env/sessions/1") == both
    assert shown(python, tmp_path / "env/lib/sessions/1") == both[:1]


def test_only_environments(tmp_path: Path) -> None:
    (tmp_path / "secrets").mkdir()
    python = PythonEnv("/usr/bin/python3", (str(tmp_path / "secrets"), str(tmp_path / "none")))
    assert shown(python, tmp_path / "session") == []


def test_of_a_shared_prefix_only_the_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = tmp_path / "me"
    python = make_prefix(home / ".local")
    (home / ".local/share/keyrings").mkdir(parents=True)
    monkeypatch.setenv("HOME", str(home))
    assert shown(python, tmp_path / "session") == [
        str(home / ".local/bin"),
        str(home / ".local/lib"),
    ]


def test_links_on_the_way_are_made_again(tmp_path: Path) -> None:
    make_prefix(tmp_path / "versions/3.11.7")
    (tmp_path / "versions/3.11").symlink_to("3.11.7")
    (tmp_path / "current").symlink_to(tmp_path / "versions/3.11")
    path = str(tmp_path / "current")
    mounts = python_mounts(
        PythonEnv(f"{path}/bin/python", (path,)), tmp_path / "session", own_system=False
    )
    real = str(tmp_path / "versions/3.11.7")
    assert bwrap_arguments(mounts, len, lambda p: "S:" + p) == [
        *("--symlink", str(tmp_path / "versions/3.11"), path),
        *("--symlink", "3.11.7", str(tmp_path / "versions/3.11")),
        *("--ro-bind", f"S:{real}/bin", f"{real}/bin"),
        *("--ro-bind", f"S:{real}/lib", f"{real}/lib"),
    ]


def test_link_loop(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    with pytest.raises(PathRefused):
        python_mounts(PythonEnv(str(tmp_path / "a"), ()), tmp_path / "s")


@pytest.mark.container
@pytest.mark.parametrize("through_link", [False, True])
async def test_virtual_environment(
    tmp_path: Path, root: Path, needs_bubblewrap: None, through_link: bool
) -> None:
    folder = tmp_path / "env"
    venv.create(folder, symlinks=True)
    packages = next((folder / "lib").glob("python3*/site-packages"))
    (packages / "only_here.py").write_text("answer = 42\n")
    if through_link:
        (tmp_path / "link").symlink_to(folder)
        folder = tmp_path / "link"
    python = PythonEnv(str(folder / "bin/python"), (str(folder), sys.base_prefix))
    sandbox = open_sandbox(root, python=python)
    await sandbox.start()
    command = "python -c 'import only_here, sys; print(only_here.answer, sys.prefix)'"
    result = await sandbox.run(f"{command}; touch {packages}/x; ls -A {tmp_path}")
    await sandbox.destroy()
    assert result.stdout.decode().split()[:2] == ["42", str(folder)], result.stderr
    assert b"Read-only file system" in result.stderr
    assert "session" not in result.stdout.decode().split()


@pytest.mark.container
@pytest.mark.skipif(not os.path.exists("/usr/bin/python3"), reason="no Python of the system")
async def test_python_of_the_system(root: Path, needs_bubblewrap: None) -> None:
    sandbox = open_sandbox(root, python=PythonEnv("/usr/bin/python3", ("/usr",)))
    await sandbox.start()
    result = await sandbox.run("python -c 'import sys; print(sys.prefix)'")
    await sandbox.destroy()
    assert result.stdout == b"/usr\n"


@pytest.mark.container
async def test_missing_python(root: Path, needs_bubblewrap: None) -> None:
    with pytest.raises(SandboxUnavailable, match="/no/python"):
        await open_sandbox(root, python=PythonEnv("/no/python", ())).start()


def test_from_json() -> None:
    assert PythonEnv.from_json({"executable": "/p", "prefixes": ["/a"]}) == PythonEnv("/p", ("/a",))
    assert PythonEnv.from_json({"executable": "/p"}) == PythonEnv("/p", ())
    for bad in (
        {},
        {"executable": 1},
        {"executable": "/p", "prefixes": "/a"},
        {"executable": "/p", "prefixes": [1]},
        {"executable": "python"},
        {"executable": "/p", "prefixes": ["relative"]},
        {"executable": "/p\0"},
    ):
        with pytest.raises(ValueError):
            PythonEnv.from_json(bad)


def test_current() -> None:
    python = PythonEnv.current()
    assert python.executable == sys.executable
    assert sys.prefix in python.prefixes and sys.base_prefix in python.prefixes
