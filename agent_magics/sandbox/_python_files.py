"""
Which files of a Python environment running it needs, and which of those may hold secrets.

An environment is a directory like any other: settings with passwords (pip.conf, .netrc, Jupyter's
and conda's), tokens of running servers, projects and notebooks end up in it. So its parts are shown
by an allow-list, and in these what has the name of a file of secrets is hidden.
"""

from __future__ import annotations

import contextlib
import fnmatch
import json
import logging
import os
import re
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

__all__ = [
    "Hidden",
    "hidden_below",
    "hidden_of_system",
    "ignores_system_packages",
    "plain_pyvenv",
    "shown_parts",
]

log = logging.getLogger(__name__)

PATIENCE = 10.0
"""Seconds for looking through a tree; what is deeper is shown as it is, and the log says so."""
FRESH = 60.0
"""Seconds for which it is not looked through again, unless a directory near its top has changed."""

_PARTS = frozenset(
    {
        *("bin", "include", "lib", "lib32", "lib64", "libexec", "sbin"),
    }
)
_CONDA_PARTS = frozenset(  # compilers, CUDA, Qt
    {
        *("compiler_compat", "fonts", "mkspecs", "nvvm", "phrasebooks", "plugins", "qml"),
        *("resources", "targets", "translations"),
    }
)
_CONDA_PARTS_LIKE = ("*-conda-linux-gnu", "*-conda_cos?-linux-gnu")
_CERTIFICATES = ("ssl/cacert.pem", "ssl/cert.pem", "ssl/certs", "ssl/ct_log_list.cnf")
_SETTINGS = ("etc/OpenCL", "etc/fonts", "etc/xml")
_SHARE = frozenset(
    {
        *("X11", "aclocal", "autoconf", "bison", "ca-certificates", "cmake", "dict", "eccodes"),
        *("enchant", "enchant-2", "espeak-ng-data", "fontconfig", "fonts", "gdal", "gettext"),
        *("ghostscript", "gir-1.0", "git-core", "glib-2.0", "gnuplot", "graphviz", "groff"),
        *("hunspell", "hwdata", "icu", "java", "libtool", "locale", "magic", "mime", "misc"),
        *("myspell", "nltk_data", "openmpi", "perl5", "pkgconfig", "poppler", "proj", "R"),
        *("readline", "sgml", "swig", "tabset", "tcltk", "terminfo", "tessdata", "texlive"),
        *("texmf", "texmf-dist", "udunits", "vim", "xml", "zoneinfo"),
    }
)
_SHARE_LEFT = frozenset({"applications", "doc", "icons", "info", "jupyter", "licenses", "man"})
_SHARE_LIKE = ("automake-*", "cmake-*", "gcc-*", "tcl?*", "tk?*")
_JUPYTER = frozenset({"nbconvert", "voila"})
"""Templates. Of Jupyter's data the rest is settings, tokens of servers, and for browsers."""

_DOTTED = frozenset(
    {
        *(
            ".bin",
            ".buildinfo",
            ".dylibs",
            ".editorconfig",
            ".f2py_f2cmap",
            ".gitignore",
            ".gitkeep",
        ),
        *(".keep", ".libs", ".nojekyll", ".npmignore", ".pnpm"),
    }
)
_DOTTED_LIKE = re.compile(r"\..+(\.hmac|\.so(\.[\d.]+)?|-wrapped)")
"""Names with a dot that are shown. All others are of settings, histories, projects, caches."""
_SECRET_FILES = frozenset(
    {
        *("Renviron.site", "Rprofile.site", "_netrc", "condarc", "credentials", "distutils.cfg"),
        *("jupyter_cookie_secret", "kaggle.json", "keyring_pass.cfg", "keyringrc.cfg", "mambarc"),
        *("nbsignatures.db", "notebook_cookie_secret", "notebook_secret", "npmrc", "pip.conf"),
        *("pip.ini", "postactivate", "postdeactivate", "preactivate", "predeactivate"),
        *("history.sqlite", "rclone.conf", "secrets.json", "secrets.toml", "secrets.yaml"),
        *("secrets.yml", "service_account.json", "service-account.json", "usercustomize.env"),
    }
)
_SECRET_FILES_LIKE = re.compile(
    r".+\.env|id_(rsa|dsa|ecdsa|ecdsa_sk|ed25519|ed25519_sk)([-_.].*)?(?<!\.pub)"
    r"|(application_default_)?credentials\.(ini|json|toml|ya?ml)|client_secrets?.*\.json"
    r"|tokens?\.(json|txt)|jupyter_.*config\.(py|json)|ipython_.*config\.(py|json)"
    r"|(kernel|jpserver|nbserver)-.*\.(json|html)|.+\.(kdbx|p12|pfx|ppk|jks|keystore|keytab)"
)
_KEYS = (".key", ".pem")
_COPY = re.compile(r"(~|\.(bak|old|orig|save|swp|tmp))$")
_SECRET_DIRECTORIES = frozenset({"conda-meta", "condarc.d", "python_keyring"})
_SYSTEM_HIDDEN = frozenset({"conda-meta", "envs", "etc", "pkgs", "var"})

_PYVENV_KEYS = frozenset(
    {
        *(
            "base-exec-prefix",
            "base-executable",
            "base-prefix",
            "executable",
            "extends-environment",
        ),
        *("home", "implementation", "include-system-site-packages", "prompt", "relocatable"),
        *("uv", "version", "version_info", "virtualenv"),
    }
)
_OWN_EXPORT = re.compile(
    rb"^\s*(?:export|setenv|set\s+-gx|set\s+-x|declare\s+-x|\$env:)\s*"
    rb"(?!PATH\b|PYTHONHOME\b|VIRTUAL_ENV\b|VIRTUAL_ENV_PROMPT\b|PS1\b|_OLD_|prompt\b)\w",
    re.IGNORECASE | re.MULTILINE,
)
_SECRET_VALUE = re.compile(
    rb"(?:TOKEN|SECRET|PASSW|API_?KEY|CREDENTIAL)\w*[\"'\]\s,]*[=,:\s]\s*\S|://[^/\s\"']*:[^/\s\"']*@",
    re.IGNORECASE,
)
_PROGRAMS = (".py", ".so", ".pyi", ".pyc", ".h", ".hpp")
_SECRET_PROGRAMS = frozenset({"activate_this.py", "sitecustomize.py", "usercustomize.py"})
_ACTIVATE = frozenset(
    {
        *("Activate.ps1", "activate", "activate.bat", "activate.csh", "activate.fish"),
        *("activate.nu", "activate.xsh", "activate_this.py", "deactivate.bat"),
    }
)
_METADATA = frozenset({"METADATA", "PKG-INFO", "dependency_links.txt", "requires.txt"})
_USER_OF_URL = re.compile(rb"(?<=://)(?!git@)[^/\s@\"'<>]+(?=@)")
_LARGEST_TEXT = 1 << 20
_HEAD = 1 << 16
"""Bytes that are read of a file of which few are longer."""


@dataclass(frozen=True)
class Hidden:
    """
    Something to be covered in what is shown: its real path, and whether it is a directory.

    `content` is what is shown of a file instead; None: nothing.
    """

    path: str
    is_directory: bool
    content: bytes | None = None


# -- what is shown


def shown_parts(prefix: str) -> list[str]:
    """What running Python needs of a prefix: paths below it that are there, links not resolved."""
    names = _names(prefix)
    parts = [name for name in names if name in _PARTS]
    if "conda-meta" in names:
        parts += [n for n in names if n in _CONDA_PARTS or _is_like(n, _CONDA_PARTS_LIKE)]
        parts += _CERTIFICATES
    parts += _SETTINGS
    if "share" in names:
        shared = _names(f"{prefix}/share")
        packages = _package_names(prefix) if set(shared) - _SHARE - _SHARE_LEFT else frozenset()
        for name in shared:
            if name in _SHARE or _is_like(name, _SHARE_LIKE) or _plain(name) in packages:
                parts.append(f"share/{name}")
            elif name == "jupyter":
                kept = _names(f"{prefix}/share/jupyter")
                parts += [f"share/jupyter/{inner}" for inner in kept if inner in _JUPYTER]
    return [path for path in (f"{prefix}/{part}" for part in parts) if os.path.lexists(path)]


def _package_names(prefix: str) -> frozenset[str]:
    """Of installed packages: what they are called is also where their data lie in `share`."""
    found: set[str] = set()
    for library in Path(prefix, "lib").glob("python3*"):
        for name in _names(f"{library}/site-packages"):
            if name.endswith((".dist-info", ".egg-info")):
                found.add(_plain(name.split("-")[0].removesuffix(".egg")))
            elif "." not in name:
                found.add(_plain(name))
    return frozenset(found - {"jupyter", "keyrings", "python_keyring", "agent_magics"})


def _plain(name: str) -> str:
    return name.lower().replace("-", "_").replace(".", "_")


def plain_pyvenv(path: str) -> bytes:
    """A pyvenv.cfg without what Python does not read, such as the command that was typed."""
    kept = []
    for line in _text(path).splitlines(keepends=True):
        key = line.partition(b"=")[0].strip().lower().decode("utf-8", "replace")
        if key in _PYVENV_KEYS:
            kept.append(line if line.endswith(b"\n") else line + b"\n")
    return b"".join(kept)


def ignores_system_packages(path: str) -> bool:
    """Whether a pyvenv.cfg, if it is there, says that only packages of its own are used."""
    text = _text(path).lower()
    return bool(text) and not re.search(rb"^\s*include-system-site-packages\s*=\s*true", text, re.M)


# -- what of it is hidden


def hidden_of_system(root: str) -> list[Hidden]:
    """What /usr and /usr/local should not have at their top: settings, histories, projects."""
    found = []
    hidden = _SYSTEM_HIDDEN if root == "/usr" else _SYSTEM_HIDDEN | {"src"}
    with contextlib.suppress(OSError), os.scandir(root) as entries:
        for entry in entries:
            if entry.is_symlink():
                continue
            directory = entry.is_dir()
            if entry.name in hidden or entry.name.startswith(".") or not directory:
                found.append(Hidden(entry.path, directory))
    with contextlib.suppress(OSError), os.scandir(f"{root}/share/jupyter") as entries:
        for entry in entries:
            if entry.name not in _JUPYTER and not entry.is_symlink():
                found.append(Hidden(entry.path, entry.is_dir()))
    return found


def hidden_below(root: str, skip: frozenset[str] = frozenset()) -> list[Hidden]:
    """
    What has the name of a secret in a tree that is shown; `root` is its real path.

    Python's own libraries are looked through as a whole but for the directories in `skip`, other
    trees three levels deep.
    """
    return _trees.look(root, skip) if Path(root).is_dir() else []


def _is_python_library(name: str) -> bool:
    return name.startswith("python3") or name in ("site-packages", "dist-packages")


class _Trees:
    """Trees that are looked through once, and again when they may have become others."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._known: dict[tuple[str, frozenset[str]], tuple[float, list[int], list[Hidden]]] = {}

    def look(self, root: str, skip: frozenset[str]) -> list[Hidden]:
        with self._lock:
            now, libraries = time.monotonic(), _python_libraries(root)
            changed = _changed(root, libraries)
            known = self._known.get((root, skip))
            if known is None or now - known[0] > FRESH or known[1] != changed:
                found = [] if root in libraries else list(_walk(root, 3, skip, libraries=False))
                for library in libraries:
                    found += _walk(library, None, skip)
                self._known[root, skip] = known = (now, changed, found)
            return known[2]


_trees = _Trees()


def _python_libraries(root: str) -> list[str]:
    if _is_python_library(Path(root).name):
        return [root]
    found = [f"{root}/{name}" for name in _names(root) if _is_python_library(name)]
    return [path for path in found if not Path(path).is_symlink()]


def _changed(root: str, libraries: list[str]) -> list[int]:
    """When the directories at the top, in which packages are installed, were changed."""
    inner = [f"{path}/{name}" for path in libraries for name in ("site-packages", "dist-packages")]
    found = []
    for path in (root, *libraries, *inner):
        with contextlib.suppress(OSError):
            found.append(os.stat(path).st_mtime_ns)  # noqa: PTH116
    return found


def _walk(
    root: str, depth: int | None, skip: frozenset[str], *, libraries: bool = True
) -> Iterator[Hidden]:
    """The shallow before the deep."""
    level, until = [root], time.monotonic() + PATIENCE
    while level and (depth is None or depth > 0):
        following: list[str] = []
        for folder in level:
            if time.monotonic() > until:
                log.warning("%s is too large to be looked through for files of secrets", root)
                return
            try:
                with os.scandir(folder) as found:
                    entries = list(found)
            except OSError:
                continue
            for entry in entries:
                name = entry.name
                if name.endswith(_PROGRAMS) and not name.startswith("."):  # nearly all
                    if name not in _SECRET_PROGRAMS and not name.endswith("config.py"):
                        continue
                elif name == "__pycache__" or (not libraries and _is_python_library(name)):
                    continue
                elif entry.is_dir(follow_symlinks=False):
                    if name in _SECRET_DIRECTORIES or _is_dotted(name):
                        yield Hidden(entry.path, True)
                    elif entry.path not in skip:
                        following.append(entry.path)
                    continue
                if name in _METADATA:
                    plain = _without_users(entry.path)
                    if plain is not None:
                        yield Hidden(os.path.realpath(entry.path), False, plain)
                elif _is_secret_file(entry):
                    yield from _real(entry)
                    yield from _compiled(folder, name)
        level = following
        depth = None if depth is None else depth - 1


def _is_secret_file(entry: os.DirEntry[str]) -> bool:
    name = _COPY.sub("", entry.name)
    if name in _SECRET_FILES or name in _SECRET_DIRECTORIES or _is_dotted(name):
        return True
    if name.endswith(_KEYS):  # certificates of others are shown
        return b"PRIVATE KEY" in _text(entry.path)
    if name == "direct_url.json":
        return _has_secret_url(entry.path)
    if name in _ACTIVATE:
        text = _text(entry.path)
        return bool(_OWN_EXPORT.search(text) or _SECRET_VALUE.search(text))
    if name in _SECRET_PROGRAMS or name.endswith(".pth"):
        return bool(_SECRET_VALUE.search(_text(entry.path)))
    if name.endswith(".py") and "/tests/" in entry.path:  # packages of Jupyter bring examples
        return False
    return bool(_SECRET_FILES_LIKE.fullmatch(name))


def _is_dotted(name: str) -> bool:
    return name.startswith(".") and name not in _DOTTED and not _DOTTED_LIKE.fullmatch(name)


def _without_users(path: str) -> bytes | None:
    """Metadata with addresses that name no user or token, as requirements may; None: it is so."""
    text = _text(path, _HEAD)
    if len(text) == _HEAD:
        text = _text(path)
    end = b"\n\n" if path.endswith(("METADATA", "PKG-INFO")) else b"\0"
    head, separator, description = text.partition(end)
    plain = _USER_OF_URL.sub(b"***", head)
    return None if plain == head else plain + separator + description


def _has_secret_url(path: str) -> bool:
    try:
        url = json.loads(_text(path))["url"]
        return any(character in url for character in "@?#")
    except (ValueError, KeyError, TypeError):
        return True


def _real(entry: os.DirEntry[str]) -> Iterator[Hidden]:
    """What a name leads to; nothing where that is not there."""
    if not entry.is_symlink():
        yield Hidden(entry.path, False)
    elif Path(entry.path).exists():
        yield Hidden(os.path.realpath(entry.path), entry.is_dir())


def _compiled(folder: str, name: str) -> Iterator[Hidden]:
    """What Python has made of a module that is hidden."""
    if name.endswith(".py"):
        for path in Path(folder, "__pycache__").glob(f"{name[:-3]}.*.pyc"):
            yield Hidden(str(path), False)


def _is_like(name: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)


def _names(folder: str) -> list[str]:
    try:
        return sorted(os.listdir(folder))  # noqa: PTH208
    except OSError:
        return []


def _text(path: str, most: int = _LARGEST_TEXT) -> bytes:
    try:
        with open(path, "rb", buffering=0) as file:  # noqa: PTH123
            return file.read(most) or b""
    except OSError:
        return b""
