"""Whether a model can read a data set."""

from __future__ import annotations

from emorl_lite.base.errors import UserError
from emorl_lite.data.datasets import Dataset
from emorl_lite.lm.model import LanguageModel


def check_lengths(dataset: Dataset, lm: LanguageModel) -> None:
    """Raise UserError naming the file and row of the first prompt that leaves the model no room for a reply."""
    for split in dataset.rows:
        first_rows = {e.prompt: e.row for e in reversed(dataset.rows[split])}
        prompts = dataset.prompts(split)
        for prompt, ids in zip(prompts, lm.prompt_ids(prompts), strict=True):
            if len(ids) > lm.prompt_limit():
                where = f"{dataset.source}, row {first_rows[prompt]}"
                raise UserError(f"{where}: the prompt has {len(ids)} tokens, more than the model's limit of {lm.prompt_limit()}")
