"""Classifiers of real text, on a random encoder small enough to train in a test."""

import json
from dataclasses import replace

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import BertConfig, BertForSequenceClassification, BertModel, PreTrainedTokenizerFast

from emorl_lite.base.errors import UserError
from emorl_lite.base.presets import TextRewards
from emorl_lite.rewards.pairs import Pair
from emorl_lite.rewards.text_judge import TextClassifier, train_text_classifier

WORDS = ["i", "you", "my", "your", "feel", "sad", "bad", "mad", "work", "home", "sorry", "what", "do", "is", "it", ".", "?"]
SMALL = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64, "max_position_embeddings": 64}


def tokenizer():
    vocabulary = {word: i for i, word in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", *WORDS])}
    made = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    made.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    special = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    return PreTrainedTokenizerFast(tokenizer_object=made, model_max_length=64, **special)


def save(folder, labels=None, **config):
    torch.manual_seed(0)
    shape = BertConfig(vocab_size=len(WORDS) + 4, **SMALL, **({} if labels is None else {"num_labels": labels}), **config)
    (BertModel(shape) if labels is None else BertForSequenceClassification(shape)).save_pretrained(folder)
    tokenizer().save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    return save(tmp_path_factory.mktemp("encoder"))


@pytest.fixture(scope="module")
def trained(encoder):
    """Replies that begin with "you" are good."""
    pairs = []
    for i in range(160):
        feeling, other = (("sad", "bad"), ("mad", "sad"), ("bad", "mad"))[i % 3]
        pairs.append(Pair(f"i feel {feeling} .", f"{('you', 'sorry')[i % 2]} feel {other} .", "made", reflection=float(i % 2 == 0)))
    config = replace(TextRewards(), text_epochs=10, text_lr=3e-3, text_lora_r=8, text_tokens=32)
    seen = []
    model, _ = train_text_classifier(encoder, pairs, [p.reflection for p in pairs], config, on_step=lambda step, loss: seen.append(loss))
    return model, seen


def test_training_learns_what_tells_good_from_bad(trained):
    model, losses = trained
    # one word decides, and the training is long enough: with every seed tried the loss fell to .003 of what it was, the scores were 1 and 0
    assert sum(losses[-10:]) < 0.2 * sum(losses[:10])
    scores = model.scores(["i feel sad ."] * 2, ["you feel mad .", "sorry feel mad ."])
    assert scores[0] > 0.7 and scores[1] < 0.3


def test_the_client_is_read_too(trained):
    model, _ = trained
    with torch.no_grad():
        first, second = model.logits(["i feel sad .", "my work is mad ."], ["you feel sad ."] * 2)
    assert abs(float(first - second)) > 1e-3


def test_scores_do_not_depend_on_the_batch(trained):
    model, _ = trained
    prompts, replies = ["i feel sad .", "my work is mad ."], ["you feel sad .", "what do you do ?"]
    one_by_one = torch.cat([model.scores([p], [r]) for p, r in zip(prompts, replies, strict=True)])
    assert torch.allclose(model.scores(prompts, replies), one_by_one, atol=0.02)  # products may be in bfloat16
    assert model.scores([], []).shape == (0,)


def test_what_is_kept_is_small_and_scores_the_same(trained, tmp_path):
    model, _ = trained
    model.save(tmp_path, objective="reflection")
    again = TextClassifier.restore(tmp_path)
    prompts, replies = ["i feel sad ."] * 3, ["you feel sad .", "sorry", "what is it ?"]
    assert torch.equal(model.scores(prompts, replies), again.scores(prompts, replies))
    assert json.loads((tmp_path / "classifier.json").read_text())["objective"] == "reflection"
    assert not list(tmp_path.glob("*.bin")) and not list(tmp_path.glob("*.pt"))


def test_a_classifier_belongs_to_its_encoder(trained, tmp_path):
    model, _ = trained
    model.save(tmp_path)
    facts = json.loads((tmp_path / "classifier.json").read_text())
    facts["probe"][0] += 1
    (tmp_path / "classifier.json").write_text(json.dumps(facts))
    with pytest.raises(UserError, match="another encoder"):
        TextClassifier.restore(tmp_path)
    with pytest.raises(UserError, match="no trained classifier"):
        TextClassifier.restore(tmp_path / "nowhere")


def test_finished_classifiers_have_one_label_or_two(tmp_path):
    prompts, replies = ["i feel sad ."], ["you feel sad ."]
    two = TextClassifier.load(save(tmp_path / "two", labels=2))
    z = two.logits(prompts, replies)
    assert torch.allclose(two.scores(prompts, replies), torch.sigmoid(z.detach()))
    one = TextClassifier.load(save(tmp_path / "one", labels=1))
    assert one.regression and torch.allclose(one.scores(prompts, replies), one.logits(prompts, replies).detach().clamp(0, 1))
    with pytest.raises(UserError, match="has 5 labels"):
        TextClassifier.load(save(tmp_path / "five", labels=5))


def test_a_model_that_is_not_there_is_one_line(monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(UserError, match="the hub did not give it") as error:
        TextClassifier.load("nobody/no-such-classifier")
    assert "\n" not in str(error.value)
    monkeypatch.setenv("EMORL_CACHE", "/nowhere")
    with pytest.raises(UserError, match="make real-models"):
        TextClassifier.fresh("all-MiniLM-L6-v2", 4, 8, 32)
