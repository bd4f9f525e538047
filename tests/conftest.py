"""Settings for all tests."""

import atexit
import gc
import os
import shutil
import tempfile

from hypothesis import settings

# On a checkout that is judged, the same examples each time; at a desk, new ones.
settings.register_profile("ci", derandomize=True, database=None)
if os.environ.get("CI"):
    settings.load_profile("ci")

# What is kept on disk: shared by the tests of one run, never found from an earlier one.
if "PYTEST_XDIST_WORKER" not in os.environ:  # a worker has it from the process that started it
    os.environ["LOOPGRAD_CACHE_DIR"] = tempfile.mkdtemp(prefix="loopgrad-tests-")
    os.environ.pop("LOOPGRAD_CACHE", None)
    atexit.register(shutil.rmtree, os.environ["LOOPGRAD_CACHE_DIR"], ignore_errors=True)

# A twelfth of the processor time of tests went into looking for garbage among what is imported and collected,
# which is none. Of the rest a process holds little at a time: it need not be looked through often.
gc.set_threshold(50_000, 20, 10)


def pytest_collection_finish() -> None:
    gc.freeze()
