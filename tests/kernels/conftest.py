from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.kernel import FrontEnd, kernel_pythons, started

_KERNELS = kernel_pythons()


@pytest.fixture(params=list(_KERNELS.values()), ids=list(_KERNELS))
def kernel(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[FrontEnd]:
    """A fresh kernel of every ipykernel under test, with a front end that plays along."""
    with started(request.param, tmp_path) as front_end:
        yield front_end
