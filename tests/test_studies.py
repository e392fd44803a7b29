"""What a study is made of."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from reviosa_core import config, studies
from reviosa_core.schema import Role
from reviosa_core.scoring import selection

ROWS = {
    "tokens": config.Experiment(roles=(Role.ACTOR, Role.TARGET), aml=False),
    "full": config.Experiment(roles=(Role.ACTOR, Role.TARGET), aml=True),
}


def test_a_row_without_aml_has_no_layer_to_vary():
    study = config.Study(rows=("tokens", "full"), rules=("one", "slow"), layers=(0, 2, 5), seeds=(3, 4))
    found = studies.variants(study, ROWS, layers=6)
    assert len(found) == 2 * 2 * (1 + 3) and len({v.name for v in found}) == len(found)
    assert {v.layer for v in found if v.row == "tokens"} == {None}
    assert studies.Variant("full", "slow", 5, None, 4) in found
    assert studies.variants(study.model_copy(update={"layers": "every"}), ROWS, layers=3)[-1].layer == 2
    halves = [studies.share(found * 2, part, 2) for part in (1, 2)]
    assert sorted(v.name for half in halves for v in half) == sorted(v.name for v in found)


def test_the_heads_of_a_layer_are_those_that_look_most():
    to_vision = np.array([[0.1, 0.2, 0.3], [0.9, 0.1, 0.8]])
    rows = pd.DataFrame(
        [
            {"layer": layer, "head": head, "vision": to_vision[layer, head], "role": "actor"}
            for layer in range(2)
            for head in range(3)
        ]
    )
    chosen = selection.Selection(0, (1,))
    assert studies.place(studies.Variant("full", "one", 1, None, 0), chosen, rows, 2) == selection.Selection(1, (0, 2))
    assert studies.place(studies.Variant("full", "one", None, None, 0), chosen, rows, 2) == chosen
    with pytest.raises(ValueError, match="full-one-layer2-seed0: layer 2 of 2, counted from 0"):
        studies.place(studies.Variant("full", "one", 2, None, 0), chosen, rows, 2)
