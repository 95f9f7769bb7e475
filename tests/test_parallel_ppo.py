"""One objective trained by two processes: they share the prompts, stay equal, write once, and load what is finished."""

import json
import os
import subprocess
import sys

import pandas as pd
import pytest

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform == "win32", reason="torch's builds for Windows lack what torchrun's meeting point needs"),
]

OPTIONS = ["--objectives", "brevity", "--objective", "brevity", "--quiet", "--model.device", "cpu"]
OPTIONS += ["--ppo.batch-size", "8", "--ppo.minibatch-size", "4", "--ppo.validate-every", "2", "--ppo.checkpoint-every", "1"]
OPTIONS += ["--data.train-prompts", "32", "--data.validation-prompts", "4", "--data.test-prompts", "4"]


def launch(runs, *more, processes=2):
    # what `accelerate launch` starts on GPUs, on the CPU
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(processes), "-m", "emorl_lite"]
    command += ["train", *OPTIONS, "--runs", str(runs), *more]
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=1200)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    runs = tmp_path_factory.mktemp("runs")
    done = launch(runs, "--ppo.episodes", "32")
    assert done.returncode == 0, done.stderr[-2000:]
    return runs / "tiny" / "seed0" / "brevity", done


def test_two_processes_count_all_prompts_and_write_once(trained):
    folder, _ = trained
    log = pd.read_csv(folder / "log.csv")
    assert log.episodes.tolist() == [8, 16, 24, 32] and log.samples.tolist() == [8, 16, 24, 32]
    assert json.loads((folder / "done.json").read_text())["identity"]["processes"] == 2
    assert log.first_ratio.max() < 1e-3 and abs(log.kl.iloc[0]) < 1e-4, "equal copies start from the base"
    assert log.validation.notna().sum() == 2


def test_a_finished_run_is_loaded_by_both(trained):
    folder, _ = trained
    before = (folder / "adapter_model.safetensors").read_bytes()
    again = launch(folder.parents[2], "--ppo.episodes", "32")
    assert again.returncode == 0 and (folder / "adapter_model.safetensors").read_bytes() == before


def test_what_cannot_be_shared_is_one_line(tmp_path):
    done = launch(tmp_path, "--ppo.episodes", "33")
    assert done.returncode and "cannot be shared evenly by 2 processes" in done.stderr


def test_one_process_cannot_continue_a_run_of_two(trained):
    folder, _ = trained
    command = [sys.executable, "-m", "emorl_lite", "train", *OPTIONS, "--runs", str(folder.parents[2]), "--ppo.episodes", "32"]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"HF_HUB_OFFLINE": "1"})
    assert done.returncode == 2 and "processes" in done.stderr
