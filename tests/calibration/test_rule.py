"""Range rules: a name says it all, and reads back."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pkecho_edge.calibration.ranges import ACTIVATION_RULES, WEIGHT_RULES
from pkecho_edge.calibration.rule import DEFAULT_RULE, RULES, RangeRule
from pkecho_edge.errors import UsageError

rules = st.builds(
    RangeRule,
    st.sampled_from(sorted(ACTIVATION_RULES)),
    st.sampled_from(WEIGHT_RULES),
    st.booleans(),
    st.sampled_from([0, 0.25, 0.5, 1.0]),
)


@given(rules)
def test_a_name_reads_back(rule: RangeRule) -> None:
    assert RangeRule.parse(rule.name) == rule


@pytest.mark.parametrize(
    ("name", "rule"),
    [
        ("minmax/minmax+bias", DEFAULT_RULE),
        ("mse", RangeRule("mse", "minmax", bias_correction=False)),
        ("minmax/mse", RangeRule(weights="mse", bias_correction=False)),
        ("entropy/minmax+bias+smooth 0.5", RangeRule("entropy", smoothing=0.5)),
        ("minmax+smooth 1+bias", RangeRule(smoothing=1)),
    ],
)
def test_names(name: str, rule: RangeRule) -> None:
    assert RangeRule.parse(name) == rule


@pytest.mark.parametrize(
    "name",
    [
        "",
        "median",
        "minmax/percentile",
        "minmax/minmax+",
        "minmax/minmax+biases",
        "minmax/mse+smooth",
        "minmax/mse+smooth much",
        "minmax/mse+smooth 1.5",
        "minmax/mse+smooth -0.5",
        "minmax/mse+smooth nan",
    ],
)
def test_what_is_no_rule_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match="Use "):
        RangeRule.parse(name)


def test_what_auto_tries_are_different_rules_and_the_default_first() -> None:
    assert RULES[0] == DEFAULT_RULE
    assert len({rule.name for rule in RULES}) == len(RULES)
