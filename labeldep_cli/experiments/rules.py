"""The names of the decisions under which the sets of two runs are compared."""

from __future__ import annotations

RULES = ("p > 0.5", "tuned", "equal labels")
"""The decisions under which sets are compared (docs/protocol.md: "A gain is three gains"): the threshold 0.5, each
run's own tuned on val, and the one that gives each run as many labels an image as val truly has."""

CRITIC, CRITIC_AT_HALF = "critic", "critic, p > 0.5"
"""The sets that a run's critic chooses, beside the reference's own under the threshold that gives as many labels an
image, and under 0.5. Only of runs with a critic."""
