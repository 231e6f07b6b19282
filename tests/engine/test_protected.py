"""Writing is free where it changes no command, and a rule never allows more than it says."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from agent_magics.engine._policy import DEFAULT_RULES, Rule, decide, is_offered_still
from agent_magics.engine._protected import CHANGES_COMMANDS
from agent_magics.sandbox import PythonEnv
from agent_magics.sandbox._environ import command_environ
from tests.support.engine_harness import call, engine_in


def asked(path: str, *rules: tuple[str, str, str]) -> str:
    extra = tuple(Rule(*rule) for rule in rules)  # type: ignore[arg-type]
    actions = {
        decide(DEFAULT_RULES + extra, t, {"filePath": path}).action for t in ("write", "edit")
    }
    (action,) = actions
    return action


def run(command: str, *patterns: str, workdir: str = "") -> str:
    rules = tuple(Rule("bash", pattern, "allow") for pattern in patterns)
    arguments = {"command": command, **({"workdir": workdir} if workdir else {})}
    return decide(DEFAULT_RULES + rules, "bash", arguments).action


_PROTECTED = """
.git/config .git/hooks/pre-commit .git/info/attributes .git sub/.git/config /tmp/x/.git/config
.GIT/config ./.git/config a/../.git/config /workspace//.git//config .gitconfig .gitattributes
sub/.gitattributes .gitmodules .husky/pre-commit .githooks/pre-push .config/git/config
.config/pip/pip.conf .local/py/sitecustomize.py .local/py/usercustomize.py .local/py/json.py
.local/py/x.pth .local/bin/git .local/bin/ls .local/lib/python3.12/site-packages/x.py
sitecustomize.py lib/usercustomize.py venv/x.pth venv/lib/python3.12/site-packages/x.py
venv/pyvenv.cfg __pycache__/x.pyc /tmp/.cache/pycache/x.pyc .cache/pip/x .bashrc .bash_profile
.profile .bash_env .bash_aliases .inputrc .zshrc .zshenv .vimrc .exrc .vim/plugin/x.vim _vimrc
.npmrc .yarnrc .yarnrc.yml .pnpmfile.cjs .envrc .env .curlrc .wgetrc .netrc .gdbinit .lldbinit
.pdbrc .pythonrc .pythonstartup .condarc .pip/pip.conf pip.conf pip.ini .ssh/config
.ssh/authorized_keys .gnupg/gpg.conf .Rprofile .Renviron .octaverc .sqliterc .psqlrc .my.cnf
.mailcap .lesskey .lessfilter .screenrc .tmux.conf .latexmkrc .perltidyrc .irbrc .gemrc
.cargo/config.toml .m2/settings.xml .gradle/init.gradle .ipython/profile_default/startup/x.py
.jupyter/jupyter_server_config.py .matplotlib/matplotlibrc matplotlibrc .pre-commit-config.yaml
.pylintrc .coveragerc .flake8 .eslintrc.js .babelrc .prettierrc .mocharc.js .docker/config.json
.kube/config .aws/config .vscode/tasks.json .idea/x .devcontainer/devcontainer.json .hg/hgrc
.svn/x evil/HEAD evil/head .python-version .tool-versions .mise.toml .direnvrc .ansible.cfg
/tmp/.bashrc .github/.git/config a/.b/c ... .x -rf --output=.git/config -t.git data/-x.csv -/a
"""
PROTECTED = _PROTECTED.split()

_FREE = """
x.py src/x.py README.md data/a.csv .gitignore sub/.gitignore .github/workflows/ci.yml .gitkeep
.dockerignore .editorconfig .agent-magics/commands/test.md .agent-magics/skills/x/SKILL.md
/tmp/x.txt Makefile package.json conftest.py pytest.ini setup.py pyproject.toml tox.ini
a-b/c-.csv header.txt config hooks/pre-commit git/config bin/git local/py/x.py a.b/c.d x.pthx heads
.env.example .mailmap docs/.nojekyll
"""
FREE = _FREE.split()


@pytest.mark.parametrize("path", PROTECTED)
def test_a_path_that_changes_what_commands_do_is_asked_about(path: str) -> None:
    assert asked(path) == "ask"
    assert asked(path, ("edit", "/workspace/*", "allow"), ("edit", "/tmp/*", "allow")) == "ask"
    assert asked(path, ("edit", "*", "allow")) == "allow"
    assert asked(path, ("bash", "*", "allow")) == "allow"  # there is nothing left to protect
    assert asked(path, ("bash", "*", "allow"), ("bash", "rm *", "deny")) == "ask"
    decision = decide(DEFAULT_RULES, "write", {"filePath": path})
    assert decision.reason == CHANGES_COMMANDS
    (always,) = decision.always
    assert asked(path, ("edit", always, "allow")) == "allow"
    assert asked(".zlogin", ("edit", always, "allow")) == "ask"
    assert asked(path, ("edit", always, "allow"), ("edit", "/workspace/*", "allow")) == "allow"


@pytest.mark.parametrize("path", FREE)
def test_other_paths_stay_free(path: str) -> None:
    assert (
        asked(path, ("bash", "git status *", "allow"), ("bash", "python3 x.py", "allow")) == "allow"
    )
    assert decide(DEFAULT_RULES, "write", {"filePath": path}).reason == ""


def test_a_rule_that_names_them_allows_protected_paths() -> None:
    assert asked(".git/config", ("edit", ".git/*", "allow")) == "allow"
    assert asked("sub/.env", ("edit", "*/.env", "allow")) == "allow"
    assert (
        asked(".git/config", ("edit", ".git/*", "deny"), ("edit", "/workspace/*", "allow")) == "ask"
    )
    assert asked(".git/config", ("edit", "/workspace/*", "allow"), ("edit", "*", "deny")) == "deny"
    assert asked("/etc/.git/config") == "deny"
    assert asked(".git/\0config") == "deny"


@pytest.mark.parametrize(
    ("path", "pattern"),
    [
        ("Makefile", "make *"),
        ("makefile", "make test"),
        ("sub/GNUmakefile", "make -C sub"),
        ("rules.mk", "make *"),
        ("package.json", "npm test"),
        ("package.json", "npm *"),
        ("node_modules/x/index.js", "npx tsc"),
        ("vite.config.ts", "npm run build"),
        ("conftest.py", "pytest *"),
        ("tests/conftest.py", "python3 -m pytest -q"),
        ("pytest.ini", "pytest"),
        ("pyproject.toml", "pytest *"),
        ("tox.ini", "tox"),
        ("setup.py", "pip install *"),
        ("setup.cfg", "uv pip install ."),
        ("noxfile.py", "nox *"),
        ("justfile", "just test"),
        ("CMakeLists.txt", "cmake *"),
        ("build.rs", "cargo build"),
        ("Dockerfile", "docker build ."),
        ("Rakefile", "rake"),
        ("mypy.ini", "mypy *"),
        ("run.sh", "./run.sh *"),
        ("bin/tool", "bin/tool"),
        ("venv/bin/pytest", "/workspace/venv/bin/pytest *"),
        ("evil/run.sh", "./run.sh *"),  # with a `workdir`, or after `cd evil`
        ("evil/Bin/Tool", "bin/tool"),
        ("run.sh", "../run.sh"),
        ("scripts/a.sh", "./scripts/*"),
        ("run.sh", "cd web && ./run.sh"),
        ("run.sh", "timeout 9 ./run.sh"),
        ("evil/venv/bin/pytest", "/workspace/venv/bin/pytest *"),
        ("/tmp/evil/run.sh", "/tmp/run.sh"),
        ("bin/tool", "~/bin/tool"),
        ("bin/tool", "$HOME/bin/tool x"),
        ("Makefile", "ma* test"),
        ("Makefile", "* test"),
        ("json.py", "python3 -m json.tool *"),
        ("sub/json/__init__.py", "python3 -m json.tool x"),
        ("re.cpython-312-x86_64-linux-gnu.so", "python3 -c 'print(1)'"),
        ("pip.py", "python3.12 -um pip list"),
        ("package-lock.json", "npm ci"),
        ("binding.gyp", "npm install"),
        ("docs/conf.py", "sphinx-build *"),
        ("rust-toolchain.toml", "cargo fmt"),
        ("R/x86_64-pc-linux-gnu-library/4.3/a/R/a", "Rscript *"),
        ("go.mod", "go test ./..."),
        ("pylintrc.toml", "pylint *"),
        ("tox.ini", "pylint *"),
        ("package.json", "jest *"),
        ("package.json", "npx eslint ."),
        ("node_modules/x/index.js", "prettier --check ."),
        ("vite.config.mts", "vitest *"),
        ("playwright.config.ts", "playwright test"),
        ("babel.config.json", "npm test"),
        ("npm-shrinkwrap.json", "npm ci"),
        ("build.ninja", "ninja"),
        ("cmake/deps.cmake", "cmake --build *"),
        ("docker-compose.override.yml", "docker compose up"),
        ("compose.override.yaml", "docker compose *"),
        ("project/plugins.sbt", "sbt test"),
        ("gradle.properties", "gradle test"),
        ("Directory.Build.props", "dotnet test"),
        ("ansible.cfg", "ansible-playbook *"),
        ("gunicorn.conf.py", "gunicorn app:app"),
        ("latexmkrc", "latexmk *"),
        ("tox.toml", "tox"),
        ("uv.lock", "uv sync"),
        ("poetry.lock", "poetry install"),
        ("Cargo.lock", "cargo test"),
        ("main.tf", "terraform plan"),
        ("app.py", "flask run"),
    ],
)
def test_build_files_are_asked_about_while_a_rule_allows_what_reads_them(
    path: str, pattern: str
) -> None:
    allowed = ("bash", pattern, "allow")
    assert asked(path) == asked(path, ("bash", "ls *", "allow")) == "allow"
    assert asked(path, allowed) == "ask"
    assert asked(path, allowed, ("edit", path, "allow")) == "allow"
    assert asked(path, allowed, ("bash", "*", "ask")) == "allow"
    rules = (*DEFAULT_RULES, Rule(*allowed))  # type: ignore[arg-type]
    assert pattern in decide(rules, "write", {"filePath": path}).reason


@pytest.mark.parametrize(
    ("path", "pattern"),
    [
        ("analyse.py", "python3 analyse.py"),
        ("json.py", "python3 analyse.py"),
        ("tests/test_x.py", "pytest tests/test_x.py"),
        ("src/types.py", "python3 -m pytest -q"),
        ("mypkg/train.py", "python3 -m mypkg.train"),
        ("json/data.csv", "python3 -m json.tool x"),
        ("json.csv", "python3 -m json.tool x"),
        ("src/types.py", "python3 train.py --make"),
        ("myrun.sh", "./run.sh"),
        ("run.sh/x", "./run.sh"),
        ("x.ipynb", "jupyter nbconvert --execute x.ipynb"),
    ],
)
def test_files_that_a_command_is_given_stay_free(path: str, pattern: str) -> None:
    assert asked(path, ("bash", pattern, "allow")) == "allow"


EVALUATING = """
printf -v 'a[$(id)]' x
printf -va x
printf "-v" 'a[$(id)]' x
printf {-v,'a[$(id)]'} x
printf $x y
printf '%s%n' abcd PATH
printf '%ln' PATH
test -v 'a[$(id)]'
test -R 'a[$(id)]'
test ! -v 'a[$(id)]'
read 'a[$(id)]'
read -a x
declare -i 'x=a[$(id)]'
declare 'a[$(id)]=1'
typeset -i 'x=a[$(id)]'
local x=1
export PATH=/workspace/bin
export LD_PRELOAD=/workspace/x.so
export GIT_PAGER=/workspace/x
readonly 'a[$(id)]=1'
unset 'a[$(id)]'
let 'a[$(id)]'
mapfile -C id -c 1 x
readarray -C id x
trap id EXIT
trap -- id 0
complete -C id x
compgen -C id x
compgen -W '$(id)'
bind -x '"x": id'
enable -f ./x.so x
hash -p ./evil git
alias git=./evil
eval id
eval 'git status'
source ./x
. ./x
wait -p 'a[$(id)]'
exec ./x
command ./x
builtin printf -v 'a[$(id)]' x
getopts a 'a[$(id)]'
jobs -x ./x
fc -s
history -r x
set -o functrace
shopt -s dotglob
""".strip().splitlines()


@pytest.mark.parametrize("command", EVALUATING)
def test_builtins_that_evaluate_need_their_exact_line(command: str) -> None:
    name = command.split(" ", 1)[0]
    assert run(command, f"{name} *") == "ask"
    assert run(f"{command}; git status", f"{name} *", "git status *") == "ask"
    assert run(command, "*") == "allow"
    (always,) = decide(DEFAULT_RULES, "bash", {"command": command}).always
    assert run(command, always) == "allow"
    assert run(f"{command} x", always) == "ask"


LAUNCHERS = """
git
git -c core.pager=./x status
git -c core.fsmonitor=./x status
git -C evil status
git --exec-path=. status
git --git-dir=evil status
git --work-tree=. --git-dir=x diff
git --config-env=core.pager=X log
git -p log
git config core.fsmonitor ./x
git config --global alias.status '!./x'
git difftool -x ./x
git grep -O./x a
git grep --open-files-in-pager=./x a
git rebase -x ./x
git bisect run ./x
git submodule foreach ./x
git filter-branch --tree-filter ./x
git fetch --upload-pack=./x .
git ls-remote --upload-pack=./x .
git clone -u ./x . y
git push --receive-pack=./x
git checkout x
git restore .
git apply x
git am x
git init
git worktree add x
git stash
git help x
git 'status'
find . -name x
find . -delete
find . -exec ./x ';'
find . -fprintf .bashrc x
fd -x ./x
awk '{print $1}' x
gawk 1 x
sed -n p x
sed -i s/a/b/ x
sed 's/a/b/e' x
tar xf x.tar
tar --to-command=./x -xf y.tar
make
make test
python3 x.py
python3.12 x.py
python x.py
pypy x.py
perl x.pl
ruby x.rb
php x.php
node x.js
deno run x.ts
bun x
lua x.lua
julia x.jl
Rscript x.R
java X
go run .
cargo test
npm test
npx x
yarn x
pnpm x
pip install x
pip list
uv run x
uvx x
pipx run x
poetry run x
conda run x
pytest -q
tox
nox
jupyter nbconvert --execute x.ipynb
bash x
bash -c ls
sh -c ls
dash x
zsh x
busybox ls
env ls
nohup ls
nice ls
ionice ls
timeout 5 ls
stdbuf -o0 ls
setsid ls
setarch ls
flock x ls
xargs ls
parallel ls
watch ls
strace ls
ltrace ls
gdb x
valgrind ls
ssh x ls
scp a b
rsync -e ./x a b
docker run x
podman run x
kubectl exec x
vim x
vi x
ex x
ed x
emacs x
nano x
less x
more x
man x
info x
script x
expect x
sqlite3 x
psql x
mysql x
curl -o x y
curl -K x
wget -O x y
zip -T x
unzip x
cpio -i
ar x
7z x y
sort --compress-program=./x y
sort x
split --filter=./x y
csplit x
dd if=x of=y
install x y
install -s --strip-program=./x a b
patch -i x
crontab x
at now
batch
su x
sudo ls
doas ls
chroot . ls
unshare ls
nsenter ls
taskset 1 ls
runuser ls
capsh
ld.so ./x
gcc x.c
cc -wrapper ./x y.c
cmake .
ninja
rg --pre ./x y
ag x
zgrep x y
xxd -r x .y
openssl x
tcpdump -z ./x
socat x
nc x
m4 x
dc x
bc x
gnuplot x
ffmpeg x
pandoc --filter ./x y
latexmk x
pdflatex --shell-escape x
black x
mypy x
ruff check x
mytool x
./run.sh x
bin/ls x
/workspace/bin/ls x
""".strip().splitlines()


@pytest.mark.parametrize("command", LAUNCHERS)
def test_always_for_what_may_run_others_is_the_exact_line(command: str) -> None:
    (always,) = decide(DEFAULT_RULES, "bash", {"command": command}).always
    assert run(command, always) == "allow"
    for other in (f"{command} more", f"{command}; id", command.split(" ", 1)[0] + " other"):
        assert run(other, always) == "ask"


PLANTING = """
cp x .git/config
cp -t .git x
cp -t.git x
cp -rt.git x
cp --target-directory=.git x
cp x ~/.bashrc
cp x $HOME/.bashrc
cp x "$HOME/.bashrc"
cp x ${HOME}/.profile
cp x .g?t/config
cp x .g*/config
cp x {.,}git
cp x {.git,y}/config
cp x $_/config
cp x "$y"
cp *
mv a b*
cp -tout* a
cp a venv/*/site-packages/json.py
cp a venv/lib/python3*/site-p*/numpy.py
cp -- -t.git x
cp -bS EAD x evil/H
cp --suffix=EAD -b x evil/H
cp --su EAD -b x evil/H
cp x -- --target-directory=y
touch -- -rf
touch ./--target-directory=.git
tee out*
cp -t.git/a=b x
cp -r evil .local
cp x a/../.git/config
cp x sub/HEAD
mv x .gitconfig
mv evil .git
mv x .config/git/config
ln -s .git a
ln -s ../.git/config a
ln .git/config a
ln -sf x .bashrc
tee .bashrc
tee -a .git/hooks/pre-commit
touch .git/index
mkdir .git
mkdir -p .local/bin
rm -r .git
chmod +x .git/hooks/pre-commit
truncate -s 0 .bashrc
cd .git
pushd .git
uniq x .bashrc
shuf -o .bashrc x
tree -o .bashrc
install x .local/bin/git
dd if=x of=.bashrc
rsync x .git/
wget -O .bashrc x
wget -O.bashrc x
wget --output-document=.bashrc x
curl -o .bashrc x
curl -o.bashrc x
curl --output .bashrc x
sort -o .bashrc x
sed -i s/a/b/ .git/config
tar -C .git -xf x
unzip x -d .git
patch .bashrc x
git diff --output=.git/hooks/pre-commit
git diff --output .bashrc
git log --output=.bashrc -1
git show --outp=.bashrc
""".strip().splitlines()


@pytest.mark.parametrize("command", PLANTING)
def test_a_pattern_allows_no_command_that_names_a_protected_path(command: str) -> None:
    words = command.split(" ")
    pattern = " ".join(words[: 2 if words[0] == "git" else 1]) + " *"
    assert run(command, pattern) == "ask"
    decision = decide(DEFAULT_RULES, "bash", {"command": command})
    assert "changes what other commands do" in decision.reason
    (always,) = decision.always
    assert run(command, always) == "allow"
    assert run(f"{command}x", always) == "ask"


@pytest.mark.parametrize(
    ("command", "reader"),
    [
        ("cp x Makefile", "make test"),
        ("cp evil/Makefile .", "make *"),
        ("mv evil node_modules", "npm test"),
        ("ln -s evil node_modules", "npm test"),
        ("cp -tnode_modules/a x", "npm test"),
        ("cd node_modules", "npm test"),
        ("mv evil bin", "bin/tool"),
        ("cp -r evil bin", "./bin/tool *"),
        ("ln -s evil bin", "bin/tool"),
        ("ln -s evil a/bin", "./a/bin/tool"),
        ("cp evil/tool bin", "bin/tool"),
        ("cp evil/tool bin/", "bin/tool"),
        ("cp -t bin evil/tool", "bin/tool"),
        ("cp -tbin evil/tool", "bin/tool"),
        ("cd bin", "bin/tool"),
        ("mv evil scripts", "./scripts/*"),
        ("mv evil venv", "/workspace/venv/bin/pytest *"),
        ("cp -r evil/venv .", "/workspace/venv/bin/pytest *"),
        ("mv evil/pytest venv/bin", "/workspace/venv/bin/pytest *"),
        ("mv evil json", "python3 -m json.tool *"),
        ("ln -s evil sub/json", "python3 -m json.tool *"),
        ("cp evil/__init__.py json", "python3 -m json.tool *"),
        ("tee conftest.py", "pytest *"),
        ("tee -a tests/conftest.py", "python3 -m pytest"),
        ("cp evil run.sh", "./run.sh *"),
        ("ln -sf evil sub/run.sh", "./run.sh *"),
        ("sort -o Makefile x", "make"),
        ("git diff --output=Makefile", "make"),
        ("git log -1 --output package.json", "npm test"),
    ],
)
def test_what_a_command_looks_for_is_no_target_of_another(command: str, reader: str) -> None:
    """What `write` may not do free, `cp *` does not do either."""
    words = command.split(" ")
    pattern = " ".join(words[: 2 if words[0] == "git" else 1]) + " *"
    assert run(command, pattern, reader) == "ask"
    assert run(command, pattern, reader, command) == "allow"
    rules = (*DEFAULT_RULES, Rule("bash", reader, "allow"))
    decision = decide(rules, "bash", {"command": command})
    assert "changes what other commands do" in decision.reason
    (always,) = decision.always
    assert run(f"{command}x", reader, always) == "ask"


@pytest.mark.parametrize(
    "command",
    [
        "mkdir -p bin json",
        "rm -rf bin",
        "touch bin/other",
        "cp x bin/other",
        "cp a.csv json/b.csv",
        "mv evil data",
        "cp /workspace/x /tmp",
        "ls bin",
    ],
)
def test_directories_of_what_is_looked_for_are_no_targets_but_stay_useful(command: str) -> None:
    patterns = (
        "python3 -m json.tool *",
        "bin/tool *",
        "/workspace/venv/bin/pytest *",
        "*/run.sh *",
    )
    assert run(command, f"{command.split()[0]} *", *patterns) == "allow"


def test_a_command_that_runs_where_such_a_file_lies_is_asked_about() -> None:
    assert run("cp ../evil/tool .", "cp *", "bin/tool", workdir="bin") == "ask"
    assert run("tar xf ../evil.tar", "tar *", "bin/tool", workdir="/workspace/bin") == "ask"
    assert run("cp ../evil/other .", "cp *", "bin/tool", workdir="src") == "allow"


@pytest.mark.parametrize(
    "command",
    [
        "git diff --output=/home/me/thesis.tex",
        "git log --output x",
        "git log --outpu$x=.git/config",
        "git log $x--output=.bashrc",
        "git log --output{=.git/config,}",
        "git log {--output,.bashrc}",
        "git log --ou=$_",
        "true .bashrc && git log --format=x --output=$_",
        "git show $_",
        "git status {a..b}",
        "git diff @{a},b}",
    ],
)
def test_commands_of_git_that_read_do_not_write(command: str) -> None:
    patterns = tuple(f"git {sub} *" for sub in ("diff", "log", "show", "status"))
    assert run(command, *patterns, "true *") == "ask"
    assert not decide(DEFAULT_RULES, "bash", {"command": command}).always[0].endswith(" *")


@pytest.mark.parametrize(
    "command", [f"cp {'=' * 9000}x y", f"cp {'{,' * 9000} y", f"cp -{'t' * 20_000} y"]
)
def test_arguments_that_take_long_to_judge_are_asked_about(command: str) -> None:
    assert run(command, "cp *") == "ask"


def test_arguments_are_relative_to_where_the_command_runs() -> None:
    assert run("cp -t. /tmp/evil/config", "cp *", workdir=".git") == "ask"
    assert run("cp -tb /tmp/evil/config", "cp *", workdir="/tmp/.config/a") == "ask"
    assert run("cp x config", "cp *", workdir=".git") == "ask"
    assert run("cp x config", "cp *", workdir="/workspace/a/../.git/info") == "ask"
    assert run("cp x config", "cp *", workdir="src") == "allow"


USUAL = [
    ("git status", "git status *"),
    ("git status --short", "git status *"),
    ("git status -- .git/config", "git status *"),
    ("git diff HEAD~1 -- a.py", "git diff *"),
    ("git diff .gitattributes", "git diff *"),
    ("git log --oneline -5 | head -3", "git log *"),
    ("git show HEAD:x.py", "git show *"),
    ("git log @{u}..HEAD --oneline", "git log *"),
    ("git diff HEAD@{1} -- *.py", "git diff *"),
    ("git diff stash@{0}^ --output-indicator-new=x", "git diff *"),
    ("git ls-files -o --exclude-standard", "git ls-files *"),
    ("git log --format='%h {a,b} $x'", "git log *"),
    ("git add -A && git commit -m 'a b'", "git add *"),
    ("git add .github .pre-commit-config.yaml", "git add *"),
    ("ls -la .git", "ls *"),
    ("cat .bashrc", "cat *"),
    ("grep -rn x .github src", "grep *"),
    ("printf '%s\\n' a b", "printf *"),
    ("printf -- '%d%%' 5", "printf *"),
    ("test -f x", "test *"),
    ("cp a.csv data/b.csv", "cp *"),
    ("cp *.csv out/", "cp *"),
    ("cp -r src/*.py tests/*.py backup", "cp *"),
    ("cp Makefile pyproject.toml out", "cp *"),
    ("mv fig?.png figures/ -v", "mv *"),
    ("ln -s ../data data", "ln *"),
    ("tee -a log.txt", "tee *"),
    ("chmod +x run.sh *.sh", "chmod *"),
    ("rm -f *.tmp build/*", "rm *"),
    ("mv a.txt ./b.txt", "mv *"),
    ("mkdir -p out/a", "mkdir *"),
    ("rm -rf build/*.o", "rm *"),
    ("touch src/__init__.py", "touch *"),
    ("tee out.log", "tee *"),
    ("cd src && ls", "cd *"),
    ("wc -l .gitignore", "wc *"),
]


@pytest.mark.parametrize(("command", "pattern"), USUAL)
def test_ordinary_commands_are_not_asked_about(command: str, pattern: str) -> None:
    rest = ("head *", "git commit *", "ls *")
    assert run(command, pattern, *rest) == "allow"
    first = command.split("&&")[0].split("|")[0].strip()
    assert decide(DEFAULT_RULES, "bash", {"command": first}).always == (pattern,)


@pytest.mark.parametrize(
    ("command", "pattern"),
    [
        ("git push", "git *"),
        ("git -c core.pager=x log", "git *"),
        ("find . -exec x ';'", "find *"),
        ("python3 .config/x.py", "python3 *"),
        ("make -f .x", "make *"),
        ("npm run x", "npm *"),
        ("./run.sh a", "./run.sh *"),
    ],
)
def test_a_pattern_of_the_configuration_means_what_the_user_wrote(
    command: str, pattern: str
) -> None:
    assert run(command, pattern) == "allow"


@pytest.mark.parametrize("command", ["l*", "r* x", "p?thon3 x.py", "l[sn] x"])
def test_always_for_a_line_with_wildcards_is_that_line(command: str) -> None:
    """A `*` in the line is the shell's; in a rule it would stand for any text."""
    (always,) = decide(DEFAULT_RULES, "bash", {"command": command}).always
    assert run(command, always) == "allow"
    for other in ("ls", "ln x", "ls x", "rm -rf x", "rm -rf /; x", "python3 x.py", "r", "l"):
        assert run(other, always) == "ask"


def test_wider_answers_of_earlier_versions_do_not_hold() -> None:
    for pattern in ("git *", "find *", "python3 *", "./run.sh *", "make *", "sudo *", "sort *"):
        assert not is_offered_still("bash", pattern)
    for pattern in ("ls *", "cp *", "git status *", "make test", "sudo ls [*]", "ls > x; rm *"):
        assert is_offered_still("bash", pattern)
    assert is_offered_still("write", "/workspace/*")


SHAPES = (
    "X",
    "-v X",
    "-a X",
    "-p X",
    "-C ID",
    "-C ID -c 1 y",
    "-i y=X",
    "X=1",
    "-n X",
    "y X",
    "-v X y",
    "ID 0",
)


def test_no_builtin_of_this_bash_that_evaluates_is_missing(tmp_path: Path) -> None:
    """Every builtin with every shape of arguments: whatever runs the substitution must ask."""
    listed = subprocess.run(
        ["bash", "-c", "compgen -b"], capture_output=True, text=True, timeout=30
    )
    # `kill` would take the 0 for the whole process group, this test's included
    names = set(listed.stdout.split()) - {"exec", "kill", "logout", "suspend", "fg", "bg", ":", "["}
    lines = {
        f"{name}-{n}": f"{name} {shape}".replace("X", f"'a[$(: >{name}-{n})]'").replace(
            "ID", f"': >{name}-{n};'"
        )
        for name in sorted(names)
        for n, shape in enumerate(SHAPES)
    }
    script = "\n".join(f"( a=(1); {line} ) <<< y" for line in lines.values())
    command = ["bash", "--norc", "-c", script]
    subprocess.run(command, cwd=tmp_path, capture_output=True, timeout=120, start_new_session=True)
    ran = {path.name for path in tmp_path.iterdir()} & lines.keys()
    found = {mark.rpartition("-")[0] for mark in ran}
    for mark in ran:
        line = lines[mark]
        assert run(line, f"{mark.rpartition('-')[0]} *") == "ask", line
    assert {"printf", "test", "read", "unset", "trap", "mapfile"} <= found


async def test_a_write_through_a_link_needs_leave_for_where_it_leads(tmp_path: Path) -> None:
    """The card names the real path; a link to a free path is followed, one to outside is denied."""
    calls = [
        call(("write", {"filePath": "a/config", "content": "[core]\n"})),
        call(("edit", {"filePath": "a/config", "oldString": "core", "newString": "user"})),
        call(("write", {"filePath": "b/x.txt", "content": "free\n"})),
        call(("write", {"filePath": "c/x", "content": "out\n"})),
    ]
    async with engine_in(tmp_path, calls) as harness:
        session = await harness.session()
        await harness.engine.containers.started(session)
        workspace = harness.sandboxes[0].workspace
        (workspace / ".git").mkdir()
        (workspace / "free").mkdir()
        for name, target in (("a", ".git"), ("b", "free"), ("c", "/proc/outside")):
            (workspace / name).symlink_to(target)
        await harness.prompt(session)
        for count, reply in ((1, "once"), (2, "reject")):
            asked = (await harness.recorder.wait("permission.asked", count=count))["properties"]
            assert asked["patterns"] == asked["always"] == ["/workspace/.git/config"]
            assert asked["metadata"]["filePath"] == "/workspace/.git/config"
            assert asked["reason"] == CHANGES_COMMANDS
            harness.engine.permissions.reply(asked["id"], reply, None, session_id=session.id)
        await harness.recorder.wait("session.idle")
        assert (workspace / ".git" / "config").read_text() == "[core]\n"
        assert (workspace / "free" / "x.txt").read_text() == "free\n"
        states = [part["state"]["status"] for part in harness.recorder.parts("tool")]
        assert states == ["completed", "error", "completed", "error"]


async def test_a_free_write_of_git_settings_is_asked_about(tmp_path: Path) -> None:
    """The attack of the issue: `git status *` is allowed, the write must not be free."""
    evil = {"filePath": ".git/config", "content": "[core]\nfsmonitor = ./evil\n"}
    steps = [
        call(("write", evil), ("batch", {"tool_calls": [{"tool": "write", "parameters": evil}]}))
    ]
    async with engine_in(tmp_path, steps) as harness:
        session = await harness.session()
        session.rules = [{"permission": "bash", "pattern": "git status *", "action": "allow"}]
        await harness.prompt(session, unattended="reject")
        await harness.recorder.wait("session.idle")
        asked = [e["properties"] for e in harness.recorder.of("permission.asked")]
        assert [request["permission"] for request in asked] == ["write", "write"]
        assert not (harness.sandboxes[0].workspace / ".git").exists()


@pytest.mark.skipif(shutil.which("git") is None, reason="needs git")
def test_git_does_not_take_a_directory_for_a_repository(tmp_path: Path) -> None:
    for name in ("objects", "refs"):
        (tmp_path / "evil" / name).mkdir(parents=True)
    (tmp_path / "evil" / "HEAD").write_text("ref: refs/heads/main\n")
    (tmp_path / "evil" / "config").write_text(
        f"[core]\nrepositoryformatversion = 0\nworktree = ..\nfsmonitor = touch {tmp_path}/ran\n"
    )
    python = PythonEnv("/usr/bin/python3", ())
    closed = command_environ(python, workspace=str(tmp_path), tmp="/tmp", extra_path="/bin")
    open_ = {name: text for name, text in closed.items() if not name.startswith("GIT_CONFIG")}
    for environ, ran in ((closed, False), (open_, True)):
        subprocess.run(
            ["git", "status"], cwd=tmp_path / "evil", env=environ, capture_output=True, timeout=30
        )
        assert (tmp_path / "ran").exists() is ran
