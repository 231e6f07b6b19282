"""Secrets of the host that lie in its Python environment, which the container is shown."""

from __future__ import annotations

import json
import os
import sys
import venv
from collections.abc import Mapping, Sequence
from pathlib import Path

from agent_magics.sandbox import PythonEnv, open_sandbox

from .stand import DECOY, Stand, check

SETTINGS = (
    *("pip.conf", "etc/pip.conf", ".netrc", "_netrc", ".condarc", "condarc", ".pypirc", ".env"),
    *("etc/conda/activate.d/keys.sh", "etc/conda/condarc", "etc/jupyter/jupyter_config.json"),
    *("etc/jupyter/jupyter_server_config.d/token.json", "etc/ipython/ipython_config.py"),
    *("etc/gitconfig", "etc/npmrc", "etc/keyring.cfg", "conda-meta/state", "conda-meta/history"),
    *("uv.toml", ".env.production", ".npmrc", ".aws/credentials", ".config/pip/pip.conf"),
    *(".jupyter/jupyter_server_config.json", ".ipython/profile_default/ipython_config.py"),
)
SERVERS = (
    *("share/jupyter/runtime/jpserver-1.json", "share/jupyter/runtime/kernel-1.json"),
    *("share/jupyter/runtime/jupyter_cookie_secret", "share/jupyter/nbsignatures.db"),
    *("share/jupyter/kernels/mine/kernel.json", "share/jupyter/lab/settings/overrides.json"),
    *("share/python_keyring/keyring_pass.cfg", "share/keyrings/login.keyring"),
    *("share/agent-magics/engine.db", "share/unheard-of/token", "var/run/service.token"),
    *("ssl/private/key.pem", "ssl/own.key", "tmp/left-over"),
)
PROJECTS = (
    *("notebook.ipynb", ".ipynb_checkpoints/notebook.ipynb", "settings.py", "data.csv"),
    *(".git/config", ".git-credentials", ".bash_history", ".python_history", ".zsh_history"),
    *("src/package/.git/config", "src/package/settings.py", "envs/other/pip.conf"),
    *("pkgs/urls.txt", "pkgs/cache/token", "project/.env", ".ssh/id_ed25519", "work/note.txt"),
    *(".venv/pip.conf", "bin/postactivate", "bin/.netrc", "lib/.env", "lib/R/etc/Renviron.site"),
    *("include/.git/config", "share/jupyter/nbconvert/.env", "lib/node_modules/.npmrc"),
)
IN_PACKAGES = (
    *(".env", ".env.local", "prod.env", ".netrc", ".pypirc", ".git/config", "pip.conf"),
    *("package/.env", "package/.git/config", "package/.git/hooks/pre-commit"),
    *("package/a/b/c/d/e/.env", "package/a/b/c/d/e/id_rsa", "package/.ipynb_checkpoints/x.ipynb"),
    *("package/secrets.toml", "package/credentials", "package/kaggle.json", "package/.aws/config"),
    *("package/jupyter_server_config.py", "package/.vscode/settings.json", "package/key.p12"),
    *("package/.htpasswd", "package/.pgpass", "package/.config/token"),
    *(".cargo/credentials.toml", ".huggingface/token", ".unheard-of", ".unheard-of.d/a/token"),
    *("package/.secrets", "package/.token", "package/.bashrc", "package/.mcp.json", ".local.py"),
    *("package/credentials.yml", "package/client_secret_1.json", "package/token.txt", "mambarc"),
    *("package/condarc.d/a.yml", "package/pip.conf.bak", "package/id_rsa.old", "prod.env~"),
    *("package/krb5.keytab", "package/id_ed25519_work", "package/rclone.conf"),
    *("package/server.key", "package/privkey.pem"),
)

READ = """
import json, os, sys
decoy, paths, prefix = json.load(sys.stdin)
def look(path):
    try:
        with open(path, "rb") as file:
            if decoy.encode() in file.read():
                print("READ", path)
    except OSError:
        pass
for path in paths:
    look(path)
seen = 0
for top, _, files in os.walk(prefix):
    for name in files:
        seen += 1
        look(os.path.join(top, name))
import asyncio, csv, ctypes, decimal, email, hashlib, http.client, multiprocessing, site, zoneinfo
import only_here
print("seen", seen > 5, only_here.answer, sys.prefix == prefix)
"""


class Planted:
    """A virtual environment of the host's that a container is started with."""

    def __init__(self, stand: Stand, name: str, home: str = "prefixes") -> None:
        self.stand = stand
        self.prefix = stand.base / home / name
        self.shown_as = self.prefix
        self.paths: list[Path] = []
        venv.create(self.prefix, symlinks=True)
        self.packages = next((self.prefix / "lib").glob("python3*/site-packages"))
        (self.packages / "only_here.py").write_text("answer = 42\n")

    def plant(self, names: Sequence[str], contents: Mapping[str, str] | None = None) -> None:
        for name in names:
            path = self.prefix / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text((contents or {}).get(name, f"token = {DECOY}\n"))
            self.paths.append(path)

    async def read(self, command: str = "true") -> str:
        """What was found; and the output of a command."""
        python = PythonEnv(
            f"{self.shown_as}/bin/python", (str(self.shown_as), os.path.realpath(sys.base_prefix))
        )
        box = open_sandbox(
            self.stand.base / f"session-{self.prefix.name}",
            provider=self.stand.provider,
            python=python,
        )
        await box.start()
        try:
            given = json.dumps([DECOY, list(map(str, self.paths)), str(self.shown_as)])
            await box.write_file("read.py", READ.encode())
            result = await box.run("python read.py", stdin=given.encode(), timeout=50)
            done = await box.run(command)
        finally:
            await box.destroy()
        found = result.stdout.decode()
        assert "seen True 42 True" in found, (found, result.stderr)
        assert "READ" not in found, found
        return (done.stdout + done.stderr).decode("utf-8", "replace")


@check
async def settings_in_the_prefix(stand: Stand) -> None:
    planted = Planted(stand, "settings")
    planted.plant(SETTINGS)
    shown = await planted.read(f"ls -A {planted.prefix}")
    assert set(shown.split()) <= {"bin", "include", "lib", "lib64", "pyvenv.cfg"}, shown


@check
async def tokens_of_servers_in_the_prefix(stand: Stand) -> None:
    planted = Planted(stand, "servers")
    planted.plant(SERVERS)
    await planted.read()


@check
async def projects_in_the_prefix(stand: Stand) -> None:
    planted = Planted(stand, "projects")
    planted.plant(PROJECTS)
    await planted.read()


@check
async def secrets_among_the_packages(stand: Stand) -> None:
    planted = Planted(stand, "packages")
    site = planted.packages.relative_to(planted.prefix)
    key = f"-----BEGIN PRIVATE KEY-----\n{DECOY}\n"
    contents = {f"{site}/{n}": key for n in IN_PACKAGES if n.endswith((".key", ".pem"))}
    planted.plant([f"{site}/{name}" for name in IN_PACKAGES], contents)
    tokens = {
        f"{site}/a-1.dist-info/direct_url.json": json.dumps(
            {"url": f"https://{DECOY}@example.org/a.git", "vcs_info": {"vcs": "git"}}
        ),
        f"{site}/b-1.dist-info/direct_url.json": json.dumps(
            {"url": f"https://example.org/b.whl?token={DECOY}"}
        ),
        f"{site}/keys.pth": f"import os; os.environ['API_KEY'] = '{DECOY}'\n",
        f"{site}/sitecustomize.py": f"import os\nos.environ['API_TOKEN'] = '{DECOY}'\n",
        f"{site}/__pycache__/sitecustomize.cpython-311.pyc": DECOY,
    }
    metadata = f"Name: a\nVersion: 1\nRequires-Dist: b @ git+https://{DECOY}@example.org/b.git\n"
    tokens[f"{site}/a-1.dist-info/METADATA"] = f"{metadata}\nText"
    tokens[f"{site}/c.egg-info/requires.txt"] = f"a\n\n[b]\nb@ https://me:{DECOY}@example.org\n"
    planted.plant(list(tokens), tokens)
    code = "from importlib.metadata import version, distribution as d; print(version('a'), end=' ')"
    code += "; print(d('a').read_text('direct_url.json'), *d('a').requires)"
    found = await planted.read(f'python -c "{code}"')
    assert found == "1 None b @ git+https://***@example.org/b.git\n", found


@check
async def words_of_the_command_that_made_it(stand: Stand) -> None:
    """In pyvenv.cfg, and what was added to the scripts that switch an environment on."""
    planted = Planted(stand, "made")
    config = planted.prefix / "pyvenv.cfg"
    config.write_text(f"{config.read_text()}command = python -m venv --prompt {DECOY} x\n")
    (planted.prefix / "bin/activate").open("a").write(f"export MY_KEY={DECOY}\n")
    (planted.prefix / "bin/activate.fish").open("a").write(f"set -gx MY_TOKEN {DECOY}\n")
    await planted.read()


@check
async def secrets_behind_links(stand: Stand) -> None:
    """The prefix is reached by a link, and in it links lead to secrets."""
    planted = Planted(stand, "real")
    planted.plant(["lib/settings.txt", "data/note", "pip.conf"])
    (planted.packages / ".env").symlink_to(planted.prefix / "lib/settings.txt")
    (planted.packages / "pip.conf").symlink_to(planted.prefix / "pip.conf")
    (planted.packages / "data").symlink_to(planted.prefix / "data")
    (planted.packages / ".netrc").symlink_to("/nowhere")
    planted.shown_as = stand.base / "prefixes/link"
    planted.shown_as.symlink_to(planted.prefix)
    planted.paths += [planted.shown_as / "pip.conf", planted.packages / "data/note"]
    await planted.read()


@check
async def the_project_around_an_environment(stand: Stand) -> None:
    planted = Planted(stand, ".venv", home="project")
    project = planted.prefix.parent
    for name in (".env", "settings.py", ".git/config", "notebook.ipynb"):
        (project / name).parent.mkdir(parents=True, exist_ok=True)
        (project / name).write_text(DECOY)
        planted.paths.append(project / name)
    assert await planted.read(f"ls -A {project}") == ".venv\n"


@check
async def what_is_added_later(stand: Stand) -> None:
    """The container runs already when pip writes its settings into the prefix."""
    planted = Planted(stand, "later")
    python = PythonEnv(f"{planted.prefix}/bin/python", (str(planted.prefix), sys.base_prefix))
    box = open_sandbox(stand.base / "session-later", provider=stand.provider, python=python)
    await box.start()
    try:
        planted.plant([*SETTINGS, *SERVERS])
        paths = " ".join(map(str, planted.paths))
        result = await box.run(f"cat {paths}; grep -r {DECOY[:20]} {planted.prefix}")
    finally:
        await box.destroy()
    assert DECOY.encode() not in result.stdout, result.stdout
