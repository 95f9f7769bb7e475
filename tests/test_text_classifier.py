"""Classifiers of real text, on a random encoder small enough to train in a test."""

import json
from dataclasses import replace

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import BertConfig, BertForSequenceClassification, BertModel, PreTrainedTokenizerFast

from emorl_lite.base.errors import UserError
from emorl_lite.base.presets import TextRewards
from emorl_lite.data.datasets import Dataset, Example
from emorl_lite.rewards.committee import Committee
from emorl_lite.rewards.pairs import Pair
from emorl_lite.rewards.text_judge import TextClassifier, train_text_classifier
from emorl_lite.rewards.text_rewards import real_classifier

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


# -- committees


@pytest.fixture(scope="module")
def committee(encoder, trained):
    return Committee([trained[0], *(random_member(encoder, seed) for seed in (1, 2))])


def random_member(encoder, seed):
    member = TextClassifier.fresh(encoder, 8, 16, 32, seed)
    for parameter in member.trained():
        torch.nn.init.normal_(parameter.data, std=0.3)
        parameter.data.copy_(parameter.data.half())
    member.model.eval()
    return member


PAIRS = (["i feel sad .", "my work is mad .", "i feel bad ."], ["you feel sad .", "sorry", "what is it ?"])


def test_a_committee_scores_by_its_members_mean_logit(committee):
    with torch.no_grad():
        logits = torch.stack([torch.logit(member.scores(*PAIRS).double()) for member in committee.members])
    assert torch.allclose(committee.scores(*PAIRS).double(), torch.sigmoid(logits.mean(0)), atol=1e-4)
    assert torch.allclose(Committee(committee.members[:1]).scores(*PAIRS), committee.members[0].scores(*PAIRS))
    assert torch.allclose(committee.scores(*PAIRS), committee.scores(*PAIRS, batch_size=1), atol=0.02)
    assert committee.scores([], []).shape == (0,)
    shifted = torch.logit(Committee(committee.members, 1.5).scores(*PAIRS).double())
    assert torch.allclose(shifted, torch.logit(committee.scores(*PAIRS).double()) + 1.5, atol=1e-3)


def test_a_committee_is_kept_whole(committee, tmp_path):
    committee.save(tmp_path, objective="reflection")
    again = Committee.restore(tmp_path, objective="reflection")
    assert torch.equal(again.scores(*PAIRS), committee.scores(*PAIRS)) and again.made_of() == committee.made_of()
    Committee(committee.members, -0.5).save(tmp_path / "shifted")
    shifted = Committee.restore(tmp_path / "shifted", offset=-0.5)
    assert torch.equal(shifted.scores(*PAIRS), Committee(committee.members, -0.5).scores(*PAIRS))
    assert again.made_of() != Committee(committee.members, -0.5).made_of()
    assert again.made_of() != Committee(committee.members[::-1]).made_of() != Committee(committee.members[:2]).made_of()
    facts = json.loads((tmp_path / "classifier.json").read_text())
    for members in (2, 4, "3"):
        (tmp_path / "classifier.json").write_text(json.dumps(facts | {"members": members}))
        with pytest.raises(UserError, match=r"classifiers|damaged|tensor") as error:
            Committee.restore(tmp_path)
        assert str(tmp_path) in str(error.value) and "\n" not in str(error.value)


def test_what_is_no_committee(encoder, trained, tmp_path):
    with pytest.raises(UserError, match="one or more"):
        Committee([])
    with pytest.raises(UserError, match="trained here"):
        Committee([TextClassifier.load(save(tmp_path / "two", labels=2))])
    with pytest.raises(UserError, match="shapes"):
        Committee([trained[0], TextClassifier.fresh(encoder, 4, 8, 32)])


@pytest.mark.slow
def test_the_option_trains_a_committee_of_different_starts(encoder, tmp_path):
    examples = [Example(f"i feel {w} .", reply, quality, None, "t", i) for i, w in enumerate(WORDS) for quality, reply in REPLIES]
    data = Dataset("pair", "made", {split: tuple(examples) for split in ("train", "validation", "test")})
    config = replace(TextRewards(), reflection_model=encoder, text_epochs=1, text_lora_r=4, text_tokens=32, reflection_members=2)
    judge = real_classifier("reflection", config, lambda: data, tmp_path / "two", "cpu", progress=False)
    assert isinstance(judge, Committee) and len(judge.members) == 2
    single = real_classifier("reflection", replace(config, reflection_members=1), lambda: data, tmp_path / "one", "cpu", progress=False)
    assert isinstance(single, TextClassifier)
    assert torch.equal(judge.members[0].scores(*PAIRS), single.scores(*PAIRS)), "the first member is the single classifier"
    assert not torch.equal(judge.members[1].scores(*PAIRS), single.scores(*PAIRS))
    for folder, made in (("one", single), ("two", judge)):  # an offset is no training: what is there judges with any
        moved = replace(config, reflection_members=1 if folder == "one" else 2, reflection_offset=1.0)
        other = real_classifier("reflection", moved, pytest.fail, tmp_path / folder, "cpu", progress=False)
        assert torch.allclose(torch.logit(other.scores(*PAIRS)), torch.logit(made.scores(*PAIRS)) + 1.0, atol=1e-3)
        assert other.made_of() != made.made_of()
    for folder, other in (("one", {"reflection_members": 2}), ("two", {"reflection_members": 1})):
        ours = {"reflection_members": 2 if folder == "two" else 1} | other
        with pytest.raises(UserError, match=next(iter(other))):
            real_classifier("reflection", replace(config, **ours), pytest.fail, tmp_path / folder, "cpu", False)
    with pytest.raises(UserError, match="made with validation_from_train = 0, now 7"):  # it has learned from what weights are chosen on
        real_classifier("reflection", config, pytest.fail, tmp_path / "two", "cpu", False, held_back=7)
    again = real_classifier("reflection", config, pytest.fail, tmp_path / "two", "cpu", progress=False)
    assert torch.equal(again.scores(*PAIRS), judge.scores(*PAIRS))


REPLIES = [("high", "you feel sad ."), ("high", "you feel it is bad ."), ("medium", "sad ."), ("low", "what do you do ?"), ("low", "sorry")]
