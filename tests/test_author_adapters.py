"""The adapters of the paper's authors: fetched whole, read without pickle, the same model afterwards, and searched by one command."""

from __future__ import annotations

import copy
import csv
import hashlib
import io
import threading
import zipfile
from dataclasses import asdict, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from tiny import PROMPTS, language_model, network, tokenizer
from torch import nn

from emorl_lite.__main__ import main
from emorl_lite.base.errors import UserError
from emorl_lite.base.npz import read_npz
from emorl_lite.base.outputs import read_provenance
from emorl_lite.base.presets import OBJECTIVES, get_preset
from emorl_lite.data import downloads
from emorl_lite.ensemble.prefix_tree import PrefixTree
from emorl_lite.experiment.experiment import Experiment
from emorl_lite.lm.author_adapters import convert, linear_layers, read_author_adapter
from emorl_lite.methods.bench import Cost, trained_parameters
from emorl_lite.rewards.registry import REWARDS
from emorl_lite.study import paper

HERE = "127.0.0.1"

PREFIX = "base_model.model."
RANK, SCALING = 3, 4.0
ENDING = 3
FIRST = f"{PREFIX}encoder.block.0.layer.0.SelfAttention.q"


def authors_arrays(base: nn.Module, seed: int) -> dict[str, np.ndarray | float]:
    """Random adapters of every linear layer but the head, as the authors' code names and shapes them."""
    random = np.random.default_rng(seed)
    arrays: dict[str, np.ndarray | float] = {}
    for name, module in base.named_modules():
        if isinstance(module, nn.Linear) and name != "lm_head":
            arrays[f"{PREFIX}{name}_loraA"] = random.normal(0, 0.2, (RANK, module.in_features)).astype(np.float32)
            arrays[f"{PREFIX}{name}_loraB"] = random.normal(0, 0.2, (module.out_features, RANK)).astype(np.float32)
            arrays[f"{PREFIX}{name}_scaling"] = SCALING
    return arrays


def write(path: Path, arrays: dict) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(path, **arrays)
    return path


def base_that_ends() -> nn.Module:
    """The same small T5 with a longer vector of its end token, so that many replies end."""
    model = network("t5")
    with torch.no_grad():
        model.shared.weight[tokenizer().eos_token_id] *= ENDING
    return model


def authors_model(arrays: dict, base: nn.Module | None = None) -> nn.Module:
    """The authors' way: W + s B A written into a copy of the base."""
    model = base or network("t5")
    state = dict(model.state_dict())
    for name in {key.rpartition("_")[0] for key in arrays}:
        A, B = (torch.as_tensor(arrays[f"{name}_{part}"]) for part in ("loraA", "loraB"))
        key = f"{name.removeprefix(PREFIX)}.weight"
        state[key] = state[key] + float(arrays[f"{name}_scaling"]) * B @ A
    model.load_state_dict(state)
    return model.eval()


@pytest.fixture(scope="module")
def arrays():
    return {name: authors_arrays(network("t5"), seed) for seed, name in enumerate(OBJECTIVES)}


@pytest.fixture(scope="module")
def converted(arrays, tmp_path_factory):
    """A language model with the three adapters, and the folders that they came from."""
    folder = tmp_path_factory.mktemp("converted")
    lm = language_model("t5")
    for name, made in arrays.items():
        convert(write(folder / f"lora_{name}_1.npz", made), folder / name, lm.base, "tiny-t5")
        lm.load_adapter(folder / name, name)
    return lm, folder


# -- the same model


def test_a_file_is_read_as_it_was_written(arrays, tmp_path):
    made = arrays["empathy"]
    layers = read_author_adapter(write(tmp_path / "a.npz", made))
    assert {PREFIX + name for name in layers} == {key.rpartition("_")[0] for key in made}
    for name, change in layers.items():
        assert np.array_equal(change.A, made[f"{PREFIX}{name}_loraA"]) and np.array_equal(change.B, made[f"{PREFIX}{name}_loraB"])
        assert (change.scaling, change.rank) == (SCALING, RANK)
        assert change.shape == linear_layers(network("t5"))[name]


def test_merged_weights_are_w_plus_s_b_a(converted, arrays):
    lm, _ = converted
    for name in OBJECTIVES:
        model = copy.deepcopy(lm.model)
        model.set_adapter(name)
        merged, expected = model.merge_and_unload().state_dict(), authors_model(arrays[name]).state_dict()
        assert merged.keys() == expected.keys()
        assert all(torch.allclose(merged[key], expected[key], atol=1e-6) for key in expected)


def test_the_file_keeps_its_numbers_and_says_little(converted, arrays):
    lm, folder = converted
    config = lm.model.peft_config["fluency"]
    assert (config.r, config.lora_alpha) == (RANK, SCALING * RANK) and not config.rank_pattern and not config.alpha_pattern
    assert set(config.target_modules) == {"q", "k", "v", "o", "wi", "wo"}, "last names, not every layer"
    assert sorted(file.name for file in (folder / "fluency").iterdir()) == ["adapter_config.json", "adapter_model.safetensors"]


def test_replies_are_those_of_the_authors_models(converted, arrays):
    lm, _ = converted
    inputs = lm.encode(PROMPTS)
    for name in OBJECTIVES:
        lm.use(name)
        model = authors_model(arrays[name])
        theirs = model.generate(input_ids=inputs.ids, attention_mask=inputs.mask, max_new_tokens=8, do_sample=False)[:, 1:]
        assert lm.reply(PROMPTS) == lm.decode(theirs)


@torch.no_grad()
def test_mixed_states_choose_the_tokens_of_the_authors_loop(converted, arrays):
    """Sum of w_i times last decoder states, the head's best word, one token after the other, as their `states_func` does it."""
    lm, _ = converted
    models = [authors_model(arrays[name]) for name in OBJECTIVES]
    weights = [[0.78125, 0.5, 0.0625], [0.2, 0.3, 0.5], [1.0, 0.0, 0.0]]
    inputs = lm.encode(PROMPTS)
    tree = PrefixTree(lm, list(OBJECTIVES), PROMPTS)
    for w, ours in zip(weights, zip(*tree.replies(weights), strict=True), strict=True):
        tokens = torch.full((len(PROMPTS), 1), models[0].config.decoder_start_token_id)
        for _ in range(8):
            states = [
                m(
                    input_ids=inputs.ids, attention_mask=inputs.mask, decoder_input_ids=tokens, output_hidden_states=True
                ).decoder_hidden_states[-1]
                for m in models
            ]
            best = models[0].lm_head(sum(a * h for a, h in zip(w, states, strict=True)))[:, -1].argmax(-1)
            tokens = torch.cat([tokens, best[:, None]], 1)
        assert list(ours) == lm.decode(tokens[:, 1:])


def test_scales_and_ranks_may_differ_by_layer(tmp_path):
    made = authors_arrays(network("t5"), 3)
    other = FIRST.replace("block.0", "block.1")
    made |= {
        f"{FIRST}_scaling": np.float32(0.3),
        f"{other}_loraA": made[f"{other}_loraA"][:2],
        f"{other}_loraB": made[f"{other}_loraB"][:, :2],
    }
    lm = language_model("t5")
    convert(write(tmp_path / "a.npz", made), tmp_path / "peft", lm.base, "tiny-t5")
    lm.load_adapter(tmp_path / "peft", "one")
    merged, expected = copy.deepcopy(lm.model).merge_and_unload().state_dict(), authors_model(made).state_dict()
    assert all(torch.allclose(merged[key], expected[key], atol=1e-6) for key in expected)


# -- what does not fit


def test_layers_that_a_file_leaves_alone_are_told_and_stay(arrays, tmp_path):
    some = {key: x for key, x in arrays["empathy"].items() if "encoder.block.0" not in key}
    lm = language_model("t5")
    fit = convert(write(tmp_path / "a.npz", some), tmp_path / "peft", lm.base, "tiny-t5")
    lm.load_adapter(tmp_path / "peft", "one")
    assert set(fit.missing) == {name for name in linear_layers(network("t5")) if "encoder.block.0" in name}
    assert "changes 26 of the base's 32" in fit.sentence("a") and fit.missing[0] in fit.sentence("a")
    merged = copy.deepcopy(lm.model).merge_and_unload().state_dict()
    assert all(torch.allclose(merged[key], x, atol=1e-6) for key, x in authors_model(some).state_dict().items())


def test_another_model_is_refused_in_one_line_and_nothing_is_written(arrays, tmp_path):
    file = write(tmp_path / "a.npz", arrays["empathy"])
    with pytest.raises(UserError, match=r"a\.npz does not fit my-llama: 32 of its 32 layers are none of the 14 linear layers there"):
        convert(file, tmp_path / "peft", network("llama"), "my-llama")
    wide = write(tmp_path / "b.npz", arrays["empathy"] | {f"{FIRST}_loraA": np.ones((RANK, 40), np.float32)})
    with pytest.raises(UserError, match=r"SelfAttention\.q has the shape \[32, 40\], expected \[32, 32\]"):
        convert(wide, tmp_path / "peft", network("t5"), "tiny-t5")
    head = {f"{PREFIX}lm_head_{part}": x for part, x in (("loraA", np.ones((1, 32))), ("loraB", np.ones((64, 1))), ("scaling", 1.0))}
    with pytest.raises(UserError, match="1 of its 33 layers are none of the 32 linear layers there, lm_head"):
        convert(write(tmp_path / "c.npz", arrays["empathy"] | head), tmp_path / "peft", network("t5"), "tiny-t5")
    assert not (tmp_path / "peft").exists()


A, B, S = (f"{FIRST}_{part}" for part in ("loraA", "loraB", "scaling"))
BAD = {
    "an array of objects": ({A: np.array([{"run": "me"}], dtype=object)}, f"{A}' holds Python objects"),
    "text": ({A: np.array(["one"])}, f"{A}' is of type"),
    "whole numbers": ({A: np.ones((RANK, 32), np.int8)}, f"{A} is of type int8"),
    "another rank": ({A: np.ones((RANK + 1, 32), np.float32)}, f"{B} has the shape"),
    "a vector": ({B: np.ones(32, np.float32)}, f"{B} has the shape [32], expected a matrix"),
    "nothing": ({A: np.ones((0, 32), np.float32)}, f"{A} has the shape [0, 32], expected a matrix"),
    "NaN": ({B: np.full((32, RANK), np.nan, np.float32)}, f"{B} holds NaN"),
    "too large for float32": ({B: np.full((32, RANK), 1e300)}, f"{B} holds NaN or infinity"),
    "two scales": ({S: np.ones(2)}, f"{S} has the shape [2], expected one number"),
    "an infinite scale": ({S: np.inf}, f"{S} is inf"),
    "no loraB": ({B: None}, f"{B} is missing"),
    "no scale": ({S: None}, f"{S} is missing"),
    "an unknown array": ({f"{FIRST}_bias": np.ones(3)}, "is none of <layer>_loraA"),
    "a layer of no PEFT model": ({"encoder.q_loraA": np.ones((2, 3))}, f"begins with {PREFIX}"),
}


@pytest.mark.parametrize("what", BAD)
def test_a_wrong_array_is_named_with_its_file(what, arrays, tmp_path):
    changed, message = BAD[what]
    made = {key: x for key, x in (arrays["fluency"] | changed).items() if x is not None}
    file = write(tmp_path / "lora_fluency_7.npz", made)
    with pytest.raises(UserError) as told:
        read_author_adapter(file)
    assert str(told.value).startswith(str(file)) and message in str(told.value) and "\n" not in str(told.value)


def npy_header(**facts) -> bytes:
    made = io.BytesIO()
    np.lib.format.write_array_header_1_0(made, {"descr": "<f4", "fortran_order": False, "shape": (1,)} | facts)
    return made.getvalue()


def zipped(path: Path, *members: tuple[str, bytes]) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive, pytest.MonkeyPatch.context() as patch:
        patch.setattr("warnings.warn", lambda *args, **kwargs: None)  # of a name that comes twice
        for name, content in members:
            archive.writestr(name, content + b"\0" * 4)
    path.write_bytes(path.read_bytes() + b"\0" * 0)


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ([("a.npy", npy_header(shape=(10**9, 10**9)))], "promises 1,000,000,000,000,000,000 numbers"),
        ([("a.npy", npy_header(shape=(-1,)))], "its shape is (-1,)"),
        ([("a.npy", b"\x93NUMPY\x09\x00")], "version 9.0"),
        ([("a.npy", b"no array")], "magic string"),
        ([("a.npy", npy_header()), ("a.npy", npy_header())], "holds the array 'a' twice"),
        ([("../a.py", b"import os")], "holds '../a.py', which is no array"),
        ([("a.npy", npy_header(shape=(10**6,)) + b"\0" * (4 * 10**6))], "unpack to 4,000,1"),
        ([], "holds no array"),
    ],
)
def test_what_an_archive_promises_is_checked_before_memory_is_asked_for(tmp_path, members, message):
    file = tmp_path / "made.npz"
    zipped(file, *members)
    with pytest.raises(UserError) as told:
        read_npz(file, "an adapter", most_bytes=10**6)
    assert str(told.value).startswith(str(file)) and message in str(told.value)


def test_a_cut_or_spoilt_file_is_told(arrays, tmp_path):
    file = write(tmp_path / "a.npz", arrays["empathy"])
    whole = file.read_bytes()
    spoilt = {"half of it": whole[: len(whole) // 2], "a byte": whole[:700] + bytes([whole[700] ^ 255]) + whole[701:], "none": b""}
    for content in [*spoilt.values(), b"version https://git-lfs.github.com/spec/v1\n", b"<html>" * 999]:
        file.write_bytes(content)
        with pytest.raises(UserError, match=r"^\S+a\.npz: cannot be read as an adapter of the paper's authors"):
            read_author_adapter(file)


def test_compressed_and_transposed_arrays_are_read(tmp_path):
    np.savez_compressed(tmp_path / "a.npz", a=np.asfortranarray(np.arange(600.0).reshape(20, 30)), b=2.0)
    arrays = read_npz(tmp_path / "a.npz", "arrays")
    assert np.array_equal(arrays["a"], np.arange(600.0).reshape(20, 30)) and arrays["b"] == 2


# -- fetched


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """Two files of each objective as the authors' repository would hold them: (folder, git's id of each by its path)."""
    folder = tmp_path_factory.mktemp("lora_results")
    for seed, (objective, number) in enumerate((o, n) for o in OBJECTIVES for n in (777, 5001)):
        write(folder / objective / f"lora_{objective}_{number}.npz", authors_arrays(network("t5"), seed))
    files = sorted(folder.rglob("*.npz"))
    return folder, {str(file.relative_to(folder)): downloads.blob_id(file) for file in files}


@pytest.fixture(scope="module")
def server(published):
    """Serves the folder, but what `spoilt` names: cut off, or another file."""
    folder, _ = published
    spoilt: dict[str, str] = {}
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            name = self.path.lstrip("/")
            asked.append(name)
            body = (folder / name).read_bytes()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            fault = spoilt.get(name, "")
            self.wfile.write(body[: len(body) // 2] if fault == "cut" else b"x" * len(body) if fault == "other" else body)

        def log_message(self, *args):
            pass

    made = ThreadingHTTPServer((HERE, 0), Handler)
    threading.Thread(target=made.serve_forever, daemon=True).start()
    yield f"http://{HERE}:{made.server_port}", spoilt, asked
    made.shutdown()


@pytest.fixture
def source(published, server, tmp_path, monkeypatch):
    """The known set, as it would be with these files. Returns where fetched files go, what to spoil, and what was asked for."""
    monkeypatch.setenv("EMORL_CACHE", str(tmp_path / "cache"))
    address, spoilt, asked = server
    spoilt.clear()
    asked.clear()
    known = replace(downloads.SOURCES["emorl-adapters"], url=address, blobs=published[1])
    monkeypatch.setitem(downloads.SOURCES, "emorl-adapters", known)
    return tmp_path / "cache" / "data" / "emorl-adapters", spoilt, asked


def files_in(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def test_the_published_ids_are_those_of_git():
    blobs = downloads.SOURCES["emorl-adapters"].blobs
    assert len(blobs) == len(set(blobs.values())) == 15 and all(len(blob) == 40 for blob in blobs.values())
    for objective in OBJECTIVES:
        assert sum(file.startswith(f"{objective}/lora_{objective}_") for file in blobs) == 5


def test_a_blob_id_is_what_git_says(tmp_path):
    (tmp_path / "a").write_bytes(b"hello\n")
    assert downloads.blob_id(tmp_path / "a") == "ce013625030ba8dba906f756967f9e9ca394464a"  # echo hello | git hash-object --stdin
    assert downloads.blob_id(tmp_path / "a") == hashlib.sha1(b"blob 6\0hello\n").hexdigest()


def test_files_are_fetched_once_and_a_stopped_download_goes_on(source, published, capsys):
    folder, spoilt, asked = source
    names = list(published[1])
    spoilt[names[3]] = "cut"
    assert main(["data", "fetch", "emorl-adapters"]) == 2
    said = capsys.readouterr().err
    assert names[3] in said and "stopped at" in said and said.count("\n") == 1
    assert set(files_in(folder)) == set(names[:3])
    assert main(["data"]) == 0 and "emorl-adapters (3 of 6 files here)" in capsys.readouterr().out
    spoilt.clear()
    asked.clear()
    assert main(["data", "fetch", "emorl-adapters"]) == 0
    assert asked == names[3:] and "Apache-2.0" in capsys.readouterr().out
    assert files_in(folder) == files_in(published[0])
    assert main(["data", "fetch", "emorl-adapters"]) == 0 and asked == names[3:], "all is there"
    assert main(["data"]) == 0 and "emorl-adapters (here)" in capsys.readouterr().out


def test_a_file_that_is_another_one_is_neither_kept_nor_overwritten(source, published, capsys):
    folder, spoilt, asked = source
    name = next(iter(published[1]))
    spoilt[name] = "other"
    assert main(["data", "fetch", "emorl-adapters"]) == 2
    said = capsys.readouterr().err
    assert name in said and "git's id is" in said and files_in(folder) == {}
    mine = folder / list(published[1])[4]
    mine.parent.mkdir(parents=True, exist_ok=True)
    mine.write_bytes(b"mine")
    asked.clear()
    assert main(["data", "fetch", "emorl-adapters"]) == 2
    said = capsys.readouterr().err
    assert str(mine) in said and said.count("\n") == 1 and mine.read_bytes() == b"mine" and not asked


def test_no_network_names_the_file_and_where_to_put_it(source, published, monkeypatch, capsys):
    folder, _, _ = source
    known = replace(downloads.SOURCES["emorl-adapters"], url=f"http://{HERE}:9")
    monkeypatch.setitem(downloads.SOURCES, "emorl-adapters", known)
    assert main(["data", "fetch", "emorl-adapters"]) == 2
    said = capsys.readouterr().err
    assert "cannot be reached" in said and str(folder / next(iter(published[1]))) in said and said.count("\n") == 1


# -- search and evaluation by them


@pytest.fixture(scope="module")
def options(tmp_path_factory) -> list[str]:
    """A random small T5 in a folder, a table of prompts, and a search of a minute's fraction."""
    folder = tmp_path_factory.mktemp("t5")
    base_that_ends().save_pretrained(folder / "small-t5")
    tokenizer(seq2seq=True).save_pretrained(folder / "small-t5")
    with (folder / "talk.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["prompt", "reply"])
        writer.writerows([f"w{i} w{i + 1} w{(i * 7) % 50}", "w3"] for i in range(40))
    return [
        "--preset", "t5", "--model.path", str(folder / "small-t5"), "--model.template", "{prompt} <sep>", "--model.max-new-tokens", "6",
        "--data", "table", "--data-path", str(folder / "talk.csv"), "--runs", str(folder / "runs"), "--model.device", "cpu",
    ]  # fmt: skip


SEARCH = ["--search.validation-prompts", "3", "--search.levels", "1"]


def word_reward(shift: int):
    """A cheap stand-in of a classifier: from the words of a reply to a number."""
    return lambda given: lambda prompts, replies: torch.tensor([(len(r) * 13 + shift * r.count("w")) % 11 / 11 for r in replies])


@pytest.fixture
def ready(source, published, monkeypatch):
    """Fetched files, and rewards that need no pretrained model."""
    folder, _, _ = source
    for name, content in files_in(published[0]).items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    for shift, name in enumerate(OBJECTIVES):
        monkeypatch.setitem(REWARDS, name, word_reward(shift))
    return folder


def runs_of(options: list[str]) -> Path:
    return Path(options[options.index("--runs") + 1]) / "t5-small-t5" / "authors"


SOME = ("--search.method", "random", "--search.evaluations", "5")


@pytest.mark.parametrize(
    ("how", "points", "name"),
    [
        ((), 27, "search"),
        (("--search.mix", "probabilities"), 27, "search-probabilities"),
        (("--search.mix", "parameters", *SOME), 5, "search-random-parameters"),
        (("--search.method", "exact"), 1, "search-exact"),
        (("--search.method", "exact", "--search.mix", "probabilities"), 1, "search-exact-probabilities"),
    ],
)
def test_one_command_searches_the_authors_adapters(ready, options, capsys, how, points, name):
    assert main(["search", *options, "--adapters", "authors", *SEARCH, *how]) == 0
    said = capsys.readouterr().out
    assert 0 <= said.index("estimated time on this machine") < said.index("weights: reflection")
    table = pd.read_csv(runs_of(options) / "talk-seed0" / f"{name}.csv")
    assert len(table) == points and table["mean"].between(0, 1).all() and table["mean"].max() > 0
    assert not list(runs_of(options).rglob("log.csv")), "nothing is trained"
    assert main(["search", *options, "--adapters", "authors", *SEARCH, *how]) == 0
    assert "estimated" not in capsys.readouterr().out, "a finished search is only read"


def test_each_seed_is_another_file_and_evaluation_names_them(ready, options, published, tmp_path, capsys):
    for seed, number in enumerate((777, 5001)):
        out = tmp_path / f"table{seed}.csv"
        assert (
            main(["evaluate", *options, "--adapters", "authors", "--seed", str(seed), "--weights", "1", "1", "1", "--out", str(out)]) == 0
        )
        said = capsys.readouterr().out
        assert 0 <= said.index("estimated time on this machine") < said.index("ensemble")
        assert list(pd.read_csv(out).policy) == ["replies", "base", *OBJECTIVES, "ensemble"]
        assert read_provenance(out)["adapters"] == {name: f"lora_{name}_{number}.npz" for name in OBJECTIVES}
    ids = {f"{Path(file).stem}-{blob[:8]}" for file, blob in published[1].items()}
    assert {folder.name for folder in (runs_of(options) / "converted").iterdir()} == ids


def experiment(options: list[str], **given) -> Experiment:
    path, data = options[options.index("--model.path") + 1], options[options.index("--data-path") + 1]
    preset = get_preset("t5")
    model = replace(preset.model, path=path, template="{prompt} <sep>", max_new_tokens=6, device="cpu")
    preset = replace(preset, model=model, data=replace(preset.data, name="table", path=data), **given.pop("preset", {}))
    root = Path(options[options.index("--runs") + 1])
    return Experiment(preset, root=root, progress=False, **given)


def test_the_experiment_has_the_authors_replies_and_trains_nothing(ready, options, published, tmp_path):
    one = experiment(options, adapters="authors")
    file = published[0] / "empathy" / "lora_empathy_777.npz"
    model = authors_model(dict(np.load(file)), base_that_ends())
    prompts = one.validation()[:3]
    one.load_adapters()
    one.lm.use("empathy")
    inputs = one.lm.encode(prompts)
    theirs = model.generate(input_ids=inputs.ids, attention_mask=inputs.mask, max_new_tokens=6, do_sample=False)[:, 1:]
    assert one.lm.reply(prompts) == one.lm.decode(theirs)
    found = one.exact_map(prompts)
    assert found.map.corners == list(OBJECTIVES)
    for act in (lambda: one.train("empathy"), one.train_all, lambda: one.warm_start(3)):
        with pytest.raises(UserError, match="only read"):
            act()
    folder = experiment(options, adapters=str(published[0]))
    assert folder.adapter_hashes() == one.adapter_hashes() if folder.trained() else False
    assert folder.folder != one.folder


@pytest.mark.parametrize("mix", ["hidden", "probabilities"])
def test_no_searched_weights_beat_the_exact_ones_whatever_is_mixed(ready, options, mix):
    """And the exact ones score what is promised, decoded on their own by the mixture that was asked for."""
    config = replace(get_preset("t5").search, mix=mix, levels=1, validation_prompts=3)
    searched = experiment(options, adapters="authors", preset={"search": config}).search()
    one = experiment(options, adapters="authors", preset={"search": replace(config, method="exact")})
    best = one.search()
    assert best.table["mean"].max() >= searched.table["mean"].max() - 1e-9
    prompts = one.validation()
    replies = [row[0] for row in one.tree(prompts, mix=mix).replies(best.best)]
    scores = torch.stack(list(one.rewards.scores(prompts, replies).values()))
    assert float(scores.mean()) == pytest.approx(float(best.table["mean"].max()), abs=1e-6)
    assert one.exact_map(prompts, mix=mix).means(best.best)[0].mean() == pytest.approx(float(best.table["mean"].max()), abs=1e-6)


def test_averaged_parameters_have_no_exact_search(ready, options, capsys):
    assert main(["search", *options, "--adapters", "authors", "--search.method", "exact", "--search.mix", "parameters"]) == 2
    said = capsys.readouterr().err
    assert "--search.mix parameters: no exact search" in said and "not linear" in said and said.count("\n") == 1


@pytest.mark.parametrize("name", ["emorl", "exact-average", "mod-reverse", "rewarded-soups"])
def test_methods_take_the_authors_adapters_and_say_that_their_cost_is_not_known(ready, options, name):
    one = experiment(options, adapters="authors")
    method = one.method(name, folder=None)
    cost = method.prepare()
    assert not cost.known and cost.trainable == sum(trained_parameters(one.lm, objective) for objective in OBJECTIVES) > 0
    assert not (cost + Cost(5, 5, 5, 5, 5.0)).known and not (Cost(5, 5, 5, 5, 5.0) + cost).known
    prompts = one.validation()[:3]
    replies = method.replies_at(prompts, [one.bench(None).uniform, (1.0, 0.0, 0.0)])
    assert replies[1] == one.policy_replies("reflection", prompts)
    means = one.rewards.means(prompts, replies[0])
    row = {"method": name, "mean": sum(means.values()) / 3, **means, **asdict(cost)}
    kept = pd.read_csv(io.StringIO(pd.DataFrame([row]).to_csv(index=False)))
    shown = paper.points_beside({"authors": kept}).set_index("method")["authors"]
    assert shown.to_dict() == {paper.METHODS[m]: "not known" if m == name else paper.NOT_MEASURED for m in paper.METHODS}


def test_the_papers_soups_are_the_merged_weights(ready, options, published):
    """W + sum_i w_i s B_i A_i, greedily."""
    one, w = experiment(options, adapters="authors"), (0.5, 0.3, 0.2)
    model = base_that_ends()
    state = dict(model.state_dict())
    for share, objective in zip(w, OBJECTIVES, strict=True):
        arrays = dict(np.load(published[0] / objective / f"lora_{objective}_777.npz"))
        changed, before = authors_model(arrays, base_that_ends()).state_dict(), base_that_ends().state_dict()
        state = {key: x + share * (changed[key] - before[key]) for key, x in state.items()}
    model.load_state_dict(state)
    prompts = one.validation()[:6]
    inputs = one.lm.encode(prompts)
    theirs = model.generate(input_ids=inputs.ids, attention_mask=inputs.mask, max_new_tokens=6, do_sample=False)[:, 1:]
    method = one.method("exact-average", folder=None)
    method.prepare()
    assert method.replies_at(prompts, [w])[0] == one.lm.decode(theirs)


def test_a_spoilt_conversion_is_made_again(ready, options):
    one = experiment(options, adapters="authors")
    assert one.trained() == list(OBJECTIVES)
    kept = one.run_folder("fluency") / "adapter_model.safetensors"
    before = kept.read_bytes()
    kept.write_bytes(before[:-9])
    assert experiment(options, adapters="authors").trained() and kept.read_bytes() == before


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--adapters", "authors", "--seed", "2"], "--seed 2: there are 2 adapters for 'reflection'"),
        (["--adapters", "authors", "--objectives", "empathy", "brevity"], "there is none for the objective 'brevity'"),
        (["--adapters", "nowhere"], "--adapters nowhere: expected 'authors', or a folder"),
        (["--adapters", ""], "--adapters is empty"),
        (["--adapters", "authors", "--model.warm-start", "w"], "without a warm start"),
    ],
)
def test_mistakes_are_one_line_before_anything_is_loaded(ready, options, capsys, more, message):
    assert main(["search", *options, *SEARCH, *more]) == 2
    said = capsys.readouterr().err
    assert message in said and said.count("\n") == 1


def test_another_base_and_files_that_are_not_there_are_told(ready, options, capsys, tmp_path, monkeypatch):
    assert main(["search", "--preset", "tiny", "--adapters", "authors", "--runs", str(tmp_path)]) == 2
    assert "does not fit tiny_lm: 32 of its 32 layers" in capsys.readouterr().err
    damaged = ready / "fluency" / "lora_fluency_777.npz"
    damaged.write_bytes(damaged.read_bytes()[:-1])
    assert main(["search", *options, "--adapters", "authors"]) == 2
    assert f"{damaged}: git's id is not that of emorl-adapters" in capsys.readouterr().err
    damaged.unlink()
    assert main(["search", *options, "--adapters", "authors"]) == 2
    assert f"{damaged}: not here yet; get it with: python -m emorl_lite data fetch emorl-adapters" in capsys.readouterr().err


def test_the_estimate_counts_scoring_where_rewards_are_there(ready, options, capsys):
    one = experiment(options, adapters="authors")
    one.progress = True
    one.rewards = one.rewards
    one.evaluate([1, 1, 1])
    assert "of decoding and 1 s of scoring" in capsys.readouterr().out
