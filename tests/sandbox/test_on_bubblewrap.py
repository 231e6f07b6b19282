"""The suite of all providers on bubblewrap."""

import pytest

from tests.sandbox.suite.commands import *
from tests.sandbox.suite.engine import *
from tests.sandbox.suite.files import *
from tests.sandbox.suite.life import *
from tests.sandbox.suite.network import *
from tests.sandbox.suite.output import *
from tests.sandbox.suite.timeouts import *
from tests.sandbox.suite.trees import *

pytestmark = pytest.mark.container
