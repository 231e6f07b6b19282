"""The suite of all providers on the bare machine, as far as it does not need a container."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from agent_magics.sandbox import Sandbox, open_sandbox
from tests.sandbox.suite.commands import (
    test_a_failing_listener_ends_the_command,
    test_background_noise_after_the_end_is_dropped,
    test_background_server_lives_on,
    test_command_text_is_not_touched,
    test_command_too_long_for_the_system,
    test_death_by_signal,
    test_input_bytes,
    test_missing_directory,
    test_no_input_by_default,
    test_output_comes_live_and_in_order,
    test_streams_and_exit_code,
    test_twenty_at_once,
)
from tests.sandbox.suite.files import (
    test_cancelled_write_leaves_nothing,
    test_directories,
    test_exact_bytes,
    test_list,
    test_missing,
    test_mode_and_links_are_kept,
    test_special_files_do_not_block,
    test_unusual_names,
)
from tests.sandbox.suite.life import (
    test_stop_keeps_files,
    test_stop_under_a_running_command,
)
from tests.sandbox.suite.output import (
    test_binary_output,
    test_endless_output_and_timeout,
    test_exactly_the_limit_is_not_truncated,
)
from tests.sandbox.suite.timeouts import (
    test_cancel_hits_only_its_own,
    test_cancel_kills_the_tree,
    test_cancelled_twice,
    test_daemons_die_with_a_timeout,
    test_may_clean_up,
    test_no_timeout,
    test_partial_output,
    test_stopped_one_is_ended,
    test_stubborn_one_is_killed,
)
from tests.sandbox.suite.trees import test_large_file_in_pieces, test_revert


@pytest.fixture
def open_box(root: Path) -> Callable[..., Sandbox]:
    return lambda **options: open_sandbox(root, provider="local", **options)
