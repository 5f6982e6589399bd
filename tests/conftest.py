"""One thread, whoever starts the tests, a seed for each of them, and no bad input where shapes are
checked.
"""

import pytest
import torch

# Two processes with two threads each wait for each other.
torch.set_num_threads(1)

collect_ignore_glob: list[str] = []


@pytest.fixture(autouse=True)
def seeded() -> None:
    """What a test draws without a seed of its own is the same in every run."""
    torch.manual_seed(0)


def pytest_configure(config: pytest.Config) -> None:
    """Leave out the tests of messages: there beartype would answer bad input first."""
    if config.getoption("--jaxtyping-packages", None):
        collect_ignore_glob.append("*_messages.py")
