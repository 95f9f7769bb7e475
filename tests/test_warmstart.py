"""The warm start: loss on replies only, one EOS, the original model untouched, a folder that loads again."""

from dataclasses import replace

import pytest
import tiny
import torch
from safetensors.torch import load_file

from emorl_lite.base.errors import UserError
from emorl_lite.lm.model import LanguageModel
from emorl_lite.training.warm_start import tokenise_examples, warm_start

pytestmark = pytest.mark.slow  # trl alone takes seconds to import

EXAMPLES = [("w1 w2 w3", "w20 w21 w22"), ("w4", "w23 w24"), ("w5 w6 w7", "w25 w26 w27 w28"), ("w10 w2", "w29")]


def loss(lm: LanguageModel) -> float:
    """Mean negative log-probability of the examples' reply tokens, EOS included."""
    logp, mask = lm.score_texts([p for p, _ in EXAMPLES], [r for _, r in EXAMPLES])
    return float(-logp.sum() / mask.sum())


def state(lm: LanguageModel) -> dict[str, torch.Tensor]:
    return {k: v.clone() for k, v in lm.model.state_dict().items()}


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("warm") / "model"
    lm = tiny.language_model("llama", adapters=1)
    before, loss_before = state(lm), loss(_base_only(lm))
    return lm, before, loss_before, warm_start(lm, EXAMPLES, steps=30, batch_size=4, lr=2e-2, folder=folder), folder


def _base_only(lm: LanguageModel) -> LanguageModel:
    """The same random base without adapters."""
    return tiny.language_model("llama")


def test_loss_on_the_pairs_falls(trained):
    _, _, before, student, _ = trained
    assert loss(student) < before / 4  # four examples learned by heart: to a fiftieth with every seed tried
    assert student.adapters == []


def test_the_original_is_unchanged(trained):
    lm, before, _, _, _ = trained
    after = lm.model.state_dict()
    assert after.keys() == before.keys()
    assert all(torch.equal(after[k], before[k]) for k in before)
    assert lm.adapters == ["reflection"]
    assert [p.requires_grad for p in lm.model.parameters()] == [p.requires_grad for p in tiny.language_model("llama", 1).model.parameters()]


def test_folder_reloads_to_the_same_model(trained):
    _, _, _, student, folder = trained
    assert student.config.path == str(folder)
    again = LanguageModel.load(replace(student.config, device="cpu"))
    assert again.reply(tiny.PROMPTS) == student.reply(tiny.PROMPTS)
    assert loss(again) == pytest.approx(loss(student), abs=1e-5)
    assert {p.suffix for p in folder.iterdir()} <= {".json", ".safetensors", ".jinja"}
    assert load_file(folder / "model.safetensors")


def test_no_steps_give_the_base_back_without_its_adapters():
    lm = tiny.language_model("llama", adapters=1)
    same = warm_start(lm, EXAMPLES, steps=0)
    assert loss(same) == pytest.approx(loss(_base_only(lm)), abs=1e-6)
    assert loss(same) != pytest.approx(loss(lm), abs=1e-3)


def test_prompt_tokens_carry_no_loss():
    lm = tiny.language_model("llama")
    rows = tokenise_examples(lm, EXAMPLES)
    for row, (prompt, reply) in zip(rows, EXAMPLES, strict=True):
        learned = [i for i, m in zip(row["input_ids"], row["completion_mask"], strict=True) if m]
        given = [i for i, m in zip(row["input_ids"], row["completion_mask"], strict=True) if not m]
        assert given == lm.prompt_ids([prompt])[0]
        assert learned == [int(i) for i in lm.encode_replies([reply])[0][0]]


def test_the_trainer_masks_prompts_and_padding(monkeypatch):
    """What reaches the model: labels are the reply and its EOS, -100 elsewhere."""
    import trl

    seen = []
    compute_loss = trl.SFTTrainer.compute_loss

    def spy(self, model, inputs, *args, **kwargs):
        seen.append({k: v.clone() for k, v in inputs.items() if torch.is_tensor(v)})
        return compute_loss(self, model, inputs, *args, **kwargs)

    monkeypatch.setattr(trl.SFTTrainer, "compute_loss", spy)
    lm = tiny.language_model("llama")
    warm_start(lm, EXAMPLES, steps=1, batch_size=4)
    labels = {tuple(i for i in row.tolist() if i != -100) for row in seen[0]["labels"]}
    assert labels == {tuple(lm.encode_replies([reply])[0][0].tolist()) for _, reply in EXAMPLES}


@pytest.mark.parametrize("reply", ["w20 w21", "w20 w21 <eos>", "w20 w21 <eos><eos>"])
def test_eos_comes_exactly_once(reply):
    lm = tiny.language_model("llama")
    ids = tokenise_examples(lm, [("w1", reply)])[0]["input_ids"]
    assert ids.count(lm.tokenizer.eos_token_id) == 1
    assert ids[-1] == lm.tokenizer.eos_token_id


def test_nothing_else_is_left_on_disk(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    warm_start(tiny.language_model("llama"), EXAMPLES, steps=1, batch_size=2)
    assert list(tmp_path.iterdir()) == []


def test_errors_are_one_clear_line():
    with pytest.raises(UserError, match="encoder-decoder"):
        warm_start(tiny.language_model("t5"), EXAMPLES, steps=1)
    with pytest.raises(UserError, match="no examples"):
        warm_start(tiny.language_model("llama"), [], steps=1)
    with pytest.raises(UserError, match=r"example 2: .*context of 64"):
        warm_start(tiny.language_model("llama"), [EXAMPLES[0], ("w1 " * 40, "w2 " * 40)], steps=1)


def test_missing_trl_names_the_cure(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "trl", None)
    with pytest.raises(UserError, match="pip install trl"):
        warm_start(tiny.language_model("llama"), EXAMPLES, steps=1)
