"""Settings for all tests."""

import os

from hypothesis import settings

# On a checkout that is judged, the same examples each time; at a desk, new ones.
settings.register_profile("ci", derandomize=True, database=None)
if os.environ.get("CI"):
    settings.load_profile("ci")
