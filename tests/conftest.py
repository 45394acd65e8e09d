"""Fixtures shared by all tests: real photographs, the optional benchmark pictures, seeds."""

import contextlib
import os
import resource
import signal
from pathlib import Path

import numpy as np
import pytest
import torch

# small tensors: threads would only wait for each other, and long where the machine is busy
torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _fixed_seed():
    """Give every test the same random numbers."""
    torch.manual_seed(0)
    np.random.seed(0)  # noqa: NPY002 - the legacy generator, because libraries use it


@pytest.fixture(scope="session")
def photo():
    """Return a function: name -> RGB HWC uint8 photograph from the scikit-image wheel."""
    import skimage.data

    return lambda name: np.ascontiguousarray(getattr(skimage.data, name)()[..., :3])


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder with benchmarks/Set5/HR, from HRIUSR_TEST_DATA or ../shared/data; skips when absent."""
    candidates = [os.environ.get("HRIUSR_TEST_DATA"), Path(__file__).parents[2] / "shared" / "data"]
    for candidate in candidates:
        if candidate and (Path(candidate) / "benchmarks" / "Set5" / "HR").is_dir():
            return Path(candidate)
    pytest.skip("no benchmark pictures: set HRIUSR_TEST_DATA to a folder with benchmarks/Set5")


@pytest.fixture
def file_size_limit():
    """Return a context manager: no file grows beyond so many bytes, and writing fails as it does on a full disk."""

    @contextlib.contextmanager
    def limit(num_bytes):
        previous = resource.getrlimit(resource.RLIMIT_FSIZE)
        handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, previous[1]))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, previous)
            signal.signal(signal.SIGXFSZ, handler)

    return limit
