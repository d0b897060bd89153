"""The commands train and denoise with small networks."""

from __future__ import annotations

import pytest


@pytest.fixture(scope="module", autouse=True)
def with_small_networks(small_networks: None) -> None:
    """In all tests of this folder."""
