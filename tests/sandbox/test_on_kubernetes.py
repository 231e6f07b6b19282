"""The suite of all providers on Kubernetes, with an API server of the tests behind it."""

from __future__ import annotations

import functools
import os
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from pathlib import Path

import pytest

pytest.importorskip("kubernetes_asyncio", reason="THE EXTRA kubernetes IS NOT INSTALLED")

from agent_magics.sandbox import KubernetesOptions, ProviderOptions, Sandbox, open_sandbox
from tests.sandbox.suite.commands import (
    test_a_failing_listener_ends_the_command,
    test_background_server_lives_on,
    test_command_text_is_not_touched,
    test_input_bytes,
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
    test_cancelled_write_leaves_nothing,
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
from tests.support.fake_cluster import FakeCluster, fake_cluster

pytestmark = pytest.mark.container


@pytest.fixture
async def cluster(
    tmp_path: Path, needs_bubblewrap: None, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[FakeCluster]:
    monkeypatch.setattr("agent_magics.sandbox._kube.POLL", 0.02)
    # the fake has no TLS, and reading the machine's certificates takes longer than all the rest
    monkeypatch.setattr("ssl.create_default_context", functools.cache(ssl.create_default_context))
    async with fake_cluster(tmp_path) as found:
        yield found
        assert found.pods == {}  # whatever the test did


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "sessions/ses_1"


@pytest.fixture
def opens(cluster: FakeCluster) -> Callable[..., Sandbox]:
    options = ProviderOptions(kubernetes=KubernetesOptions(kubeconfig=str(cluster.kubeconfig())))
    return lambda root, **more: open_sandbox(
        root, **{**more, "provider": "kubernetes", "options": options}
    )


@pytest.fixture
def kill_container(cluster: FakeCluster) -> Callable[[Sandbox], Awaitable[None]]:
    async def kill(sandbox: Sandbox) -> None:
        for processes in cluster._running.values():
            for process in processes:
                with suppress(ProcessLookupError):
                    os.kill(process.pid, 9)

    return kill
