"""The names of the decision rules under which the label sets of two runs are compared."""

from __future__ import annotations

RULES = ("p > 0.5", "tuned", "equal labels")
"""The decision rules under which sets are compared (docs/protocol.md: "A gain is three gains"): the threshold 0.5,
each run's threshold tuned on val, and the threshold that gives each run as many labels per image as val truly has."""

CRITIC, CRITIC_AT_HALF = "critic", "critic, p > 0.5"
"""Rules for runs with a critic only. The sets that the critic chooses are compared with the reference's sets: under the
threshold that gives as many labels per image, and under 0.5."""

OWN, OWN_AT_HALF = "own sets", "own sets, p > 0.5"
"""The same for the most probable sets of a joint head without a critic."""
