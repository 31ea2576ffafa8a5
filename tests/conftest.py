"""What all tests share: bounded, repeatable chance."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

# The same examples on every machine and every run: a failure is a defect, never luck. `soak` looks for new ones.
settings.register_profile(
    "default", derandomize=True, database=None, deadline=None, max_examples=100,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)  # fmt: skip
settings.register_profile("soak", settings.get_profile("default"), derandomize=False, max_examples=5000)
settings.load_profile("default")
