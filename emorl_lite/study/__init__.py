"""All methods over several seeds, and what the tables say (notebooks 06 to 08)."""

from emorl_lite.study import paper
from emorl_lite.study.claims import examined, holm, interval_of, of_steering, tally
from emorl_lite.study.comparison import (
    BY_GRID,
    BY_OWN_SEARCH,
    beside_every_setting,
    best_by_level,
    consumption,
    difference,
    front_metrics,
    paired,
    representative,
    search_replies,
    searched_too,
    with_intervals,
)
from emorl_lite.study.consumed import consumption_table, every_spending, labelled, paper_spending, spending
from emorl_lite.study.crossed import crossed
from emorl_lite.study.evidence import claim_p
from emorl_lite.study.exact_fronts import FRONT_STEPS, beside_sweep, exact_front, front_tables
from emorl_lite.study.quality import reply_quality
from emorl_lite.study.recipe import paper_recipe, remaining_differences, scaled_down
from emorl_lite.study.run import Study
from emorl_lite.study.tables import cube_table, optional_table, outdated, real_logs, real_tables, study_tables
from emorl_lite.study.training_curves import curves, learning
from emorl_lite.study.triples import beside_published, best_points, cube_points, evaluate_triples, exact_optima

__all__ = [
    "BY_GRID",
    "BY_OWN_SEARCH",
    "FRONT_STEPS",
    "Study",
    "beside_every_setting",
    "beside_published",
    "beside_sweep",
    "best_by_level",
    "best_points",
    "claim_p",
    "consumption",
    "consumption_table",
    "crossed",
    "cube_points",
    "cube_table",
    "curves",
    "difference",
    "evaluate_triples",
    "every_spending",
    "exact_front",
    "exact_optima",
    "examined",
    "front_metrics",
    "front_tables",
    "holm",
    "interval_of",
    "labelled",
    "learning",
    "of_steering",
    "optional_table",
    "outdated",
    "paired",
    "paper",
    "paper_recipe",
    "paper_spending",
    "real_logs",
    "real_tables",
    "remaining_differences",
    "reply_quality",
    "representative",
    "scaled_down",
    "search_replies",
    "searched_too",
    "spending",
    "study_tables",
    "tally",
    "with_intervals",
]
