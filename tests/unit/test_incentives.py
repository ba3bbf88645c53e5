"""What stage 3's reward pays for, on probabilities that are known."""

import numpy as np
import pytest

from scripts.toy_world.incentives import RULES, best_policy, scenes

PUBLISHED = RULES["log, as published"]


def test_where_no_label_is_likely_enough_the_published_reward_pays_for_a_word_that_is_no_candidate():
    best = best_policy([{"awe": 0.6, "fear": 0.3, "anger": 0.1}], PUBLISHED)
    assert (best["accuracy"], best["likeliest"], best["no candidate"], best["reward"]) == (0.0, 0.0, 1.0, 1.0)
    assert best["honest"] == pytest.approx(1 + 0.6 + 2 * (0.6 * np.log(0.6) + 0.4 * np.log(0.4)))


def test_where_a_label_is_likely_enough_the_published_reward_pays_for_it():
    best = best_policy([{"awe": 0.9, "fear": 0.1}], PUBLISHED)
    assert (best["accuracy"], best["likeliest"], best["no candidate"]) == (0.9, 1.0, 0.0)
    assert best["reward"] == best["honest"]


@pytest.mark.parametrize("rule", ["brier", "rlcr"])
def test_the_bounded_rules_pay_for_the_likeliest_label_in_every_scene(rule):
    posteriors = scenes(20)
    best = best_policy(posteriors, RULES[rule])
    assert (best["likeliest"], best["no candidate"]) == (1.0, 0.0)
    assert best["accuracy"] == pytest.approx(np.mean([max(scene.values()) for scene in posteriors]))


def test_over_flat_random_posteriors_the_published_reward_hardly_pays_for_any_answer():
    rng = np.random.default_rng(0)
    posteriors = [dict(enumerate(row)) for row in rng.dirichlet(np.ones(8), 2000)]
    assert best_policy(posteriors, PUBLISHED)["likeliest"] < 0.1
    assert best_policy(posteriors, RULES["rlcr"])["likeliest"] == 1.0
