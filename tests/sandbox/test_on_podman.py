"""The suite of all providers on real podman, and on podman's service by Docker's command line."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from agent_magics.sandbox import Limits, OciOptions, ProviderOptions, Sandbox, open_sandbox
from agent_magics.sandbox._oci import OWN_PROCESSES
from tests.sandbox.suite.commands import (
    test_a_failing_listener_ends_the_command,
    test_background_server_lives_on,
    test_command_text_is_not_touched,
    test_no_input_by_default,
    test_output_comes_live_and_in_order,
    test_streams_and_exit_code,
    test_twenty_at_once,
    test_variables,
)
from tests.sandbox.suite.engine import (
    test_a_container_rests_and_names_its_jobs,
    test_a_turn_is_taken_back,
    test_other_hosts_are_asked_about,
)
from tests.sandbox.suite.files import (
    test_directories,
    test_mode_and_links_are_kept,
    test_read_only_places,
    test_special_files_do_not_block,
    test_too_large,
    test_unusual_names,
)
from tests.sandbox.suite.life import (
    test_death_of_the_container,
    test_start_is_idempotent,
    test_stop_keeps_files,
    test_stop_under_a_running_command,
)
from tests.sandbox.suite.network import (
    test_much_and_many,
    test_the_end_of_either_side_reaches_the_other,
    test_what_is_allowed_and_nothing_else,
    test_who_never_reads_holds_up_nobody,
)
from tests.sandbox.suite.output import (
    test_binary_output,
    test_exactly_the_limit_is_not_truncated,
)
from tests.sandbox.suite.timeouts import (
    test_cancel_kills_the_tree,
    test_ctrl_c_as_at_a_prompt,
    test_daemons_survive_a_normal_end,
    test_stubborn_one_is_killed,
)
from tests.sandbox.suite.trees import test_large_file_in_pieces, test_revert
from tests.support.podman import IMAGE, NotHere, Podman, real_podman
from tests.support.processes import eventually, with_argument

pytestmark = pytest.mark.container

OPTIONS = ProviderOptions(podman=OciOptions(image=IMAGE), docker=OciOptions(image=IMAGE))


@pytest.fixture(scope="module")
def podman() -> Iterator[Podman]:
    try:
        with real_podman() as found:
            yield found
            assert found.containers() == []  # whatever the tests did
    except NotHere as reason:
        pytest.skip(f"NO REAL PODMAN HERE, NOTHING OF IT IS TESTED: {reason}")


@pytest.fixture(params=["podman", "docker"])
def provider(
    request: pytest.FixtureRequest, podman: Podman, monkeypatch: pytest.MonkeyPatch
) -> str:
    if request.param == "docker" and podman.docker:
        pytest.skip(f"NO DOCKER COMMAND LINE HERE, IT IS NOT TESTED: {podman.docker}")
    monkeypatch.setenv("PATH", f"{podman.bin}:{os.environ['PATH']}")
    return str(request.param)


@pytest.fixture
def opens(provider: str) -> Callable[..., Sandbox]:
    return lambda root, **more: open_sandbox(
        root, **{"options": OPTIONS, **more, "provider": provider}
    )


async def test_what_a_command_can_do_and_see(sandbox: Sandbox, root: Path) -> None:
    seen = await sandbox.run("cat /proc/self/status; ls /proc/self/fd; env")
    status = dict(line.split(b":\t") for line in seen.stdout.splitlines() if b":\t" in line)
    assert status[b"NoNewPrivs"] == b"1" and status[b"Seccomp"] == b"2"
    assert {status[name] for name in (b"CapEff", b"CapPrm", b"CapBnd")} == {b"0" * 16}
    assert b"0" not in status[b"Uid"].split()
    assert int(status[b"Uid"].split()[0]) == (root / "workspace").stat().st_uid
    names = {line.partition(b"=")[0] for line in seen.stdout.splitlines() if b"=" in line}
    assert names >= {b"HOME", b"PATH"} and b"PYTEST_CURRENT_TEST" not in names
    failing = "touch /y; touch /etc/y; touch /usr/y; cat /proc/1/environ; ls /proc/1/fd"
    refused = await sandbox.run(failing)
    assert refused.stdout == b"" and len(refused.stderr.splitlines()) == 5
    links = await sandbox.run("python3 -c 'import socket; print(len(socket.if_nameindex()))'")
    assert links.stdout == b"1\n"  # lo, and no way out
    room = await sandbox.run("head -c 600000000 /dev/zero > /tmp/large")
    assert room.exit_code != 0 and b"No space left" in room.stderr


async def test_the_kernel_holds_memory_and_processes(
    podman: Podman, open_box: Callable[..., Sandbox]
) -> None:
    if podman.cgroups:
        pytest.skip(f"NO CGROUPS HERE, LIMITS OF THE KERNEL ARE NOT TESTED: {podman.cgroups}")
    box = open_box(limits=Limits(memory=300 << 20, processes=50))
    await box.start()
    files = "/sys/fs/cgroup/memory.max /sys/fs/cgroup/pids.max"
    seen = (await box.run(f"cat {files}")).stdout.split()
    await box.destroy()
    assert [int(number) for number in seen] == [300 << 20, 50 + OWN_PROCESSES]


async def test_left_behind_by_a_dead_engine(
    podman: Podman,
    provider: str,
    root: Path,
    open_box: Callable[..., Sandbox],
    monkeypatch: pytest.MonkeyPatch,
    seconds: str,
) -> None:
    program = (
        "import asyncio, sys\nfrom pathlib import Path\nfrom agent_magics.sandbox import *\n"
        "async def main():\n"
        f"    options = OciOptions(image={IMAGE!r})\n"
        f"    both = ProviderOptions(podman=options, docker=options)\n"
        f"    box = open_sandbox(Path(sys.argv[1]), provider={provider!r}, options=both)\n"
        "    await box.start()\n"
        "    print('up', flush=True)\n"
        f"    await box.run('echo x > kept; sleep {seconds}', timeout=None)\n"
        "asyncio.run(main())\n"
    )
    engine = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", program, str(root)), stdout=subprocess.PIPE
    )
    assert engine.stdout is not None and await engine.stdout.readline() == b"up\n"
    await eventually(lambda: len(with_argument(seconds)) == 1)
    (name,) = podman.containers()
    orphan = f"{name}-orphan"  # as if its end had not reached the container
    marks = podman("inspect", "--format", "{{json .Config.Labels}}", name)
    engine.kill()
    await engine.communicate()
    await eventually(lambda: not with_argument(seconds))
    await eventually(lambda: podman.containers() == [])
    idle = ("run", "--detach", "--stop-timeout", "0", "--name")
    labels = [part for k, v in json.loads(marks).items() for part in ("--label", f"{k}={v}")]
    podman(*idle, orphan, *labels, IMAGE, "sleep", "3600")
    other = f"{name}-other"  # somebody else's
    podman(*idle, other, IMAGE, "sleep", "3600")
    monkeypatch.setattr("agent_magics.sandbox._oci._swept", set())
    box = open_box()
    await box.start()
    assert orphan not in podman.containers() and other in podman.containers()
    assert await box.read_file("kept") == b"x\n"
    await box.destroy()
    podman("rm", "--force", other)
    assert podman.containers() == []
