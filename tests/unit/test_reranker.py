"""The example job: its metrics, what it learns, and how it behaves when it is stopped or given bad input."""

from __future__ import annotations

import importlib.util
import json
import math
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

np = pytest.importorskip("numpy", reason="the re-ranker example needs NumPy: pip install numpy")

SCRIPT = Path(__file__).resolve().parents[2] / "examples" / "reranker" / "train.py"
DATA = SCRIPT.parent / "data" / "triples.jsonl"


@pytest.fixture(scope="module")
def reranker():
    """The script as a module, under a name that cannot meet another `train`."""
    spec = importlib.util.spec_from_file_location("reranker_train", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def run(*arguments: str, cwd: Path) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, str(SCRIPT), *arguments], cwd=cwd, capture_output=True, text=True, timeout=120, check=False
    )


@pytest.fixture(scope="module")
def short_run(tmp_path_factory):
    """One run of 15 epochs: the finished process and its folder of results."""
    folder = tmp_path_factory.mktemp("short")
    done = run("--epochs", "15", "--output", "out", "--query", "my cloud bill is too high", cwd=folder)
    assert done.returncode == 0, done.stderr
    return done, folder / "out"


@pytest.mark.parametrize(
    ("scores", "positive", "expected"),
    [
        ([3.0, 2.0, 1.0], 0, 1.0),
        ([3.0, 2.0, 1.0], 1, 0.5),
        ([3.0, 2.0, 1.0], 2, 1 / 3),
        ([0.0, 0.0, 0.0, 0.0], 0, 0.25),  # a tie counts as a loss
        ([0.0, *range(1, 10)], 0, 0.1),
        ([0.0, *range(1, 11)], 0, 0.0),  # rank 11 is beyond the cutoff
    ],
)
def test_reciprocal_rank(reranker, scores, positive, expected):
    assert reranker.reciprocal_rank(np.array(scores), positive) == pytest.approx(expected)


def test_mean_reciprocal_rank(reranker):
    lists = [(np.array([2.0, 1.0]), 0), (np.array([2.0, 1.0]), 1), (np.array([1.0, 2.0, 3.0, 4.0]), 0)]
    assert reranker.mean_reciprocal_rank(lists) == pytest.approx((1 + 1 / 2 + 1 / 4) / 3)
    assert reranker.mean_reciprocal_rank([]) == 0.0
    assert reranker.mean_reciprocal_rank(lists, cutoff=1) == pytest.approx(1 / 3)


def test_bm25_by_hand(reranker):
    """Two documents of two terms: the length is the mean, so a term found once weighs exactly its idf."""
    bm25 = reranker.BM25([["red", "moon"], ["red", "sun"]])
    rare, common = math.log(1 + (2 - 1 + 0.5) / 1.5), math.log(1 + (2 - 2 + 0.5) / 2.5)
    scores = bm25.scores([["moon"], ["red", "sun"], ["comet"]])
    assert scores == pytest.approx(np.array([[rare, 0], [common, common + rare], [0, 0]]), abs=1e-6)


def test_coverage_by_hand(reranker):
    bm25 = reranker.BM25([["red", "moon"], ["red", "sun"]])
    coverage = bm25.coverage([["moon"], ["red", "moon"], ["comet"], []])
    rare, common = math.log(2), math.log(1.2)
    assert coverage[0] == pytest.approx([1, 0])
    assert coverage[1] == pytest.approx([1, common / (common + rare)])
    assert coverage[2] == pytest.approx([0, 0])
    assert coverage[3] == pytest.approx([0, 0])


def test_gradients_agree_with_differences(reranker):
    """One plain gradient step's direction, taken from the optimizer's first moment, against finite differences."""
    model = reranker.Reranker(seed=3)
    rng = np.random.default_rng(5)
    queries, passages = rng.random((3, reranker.BUCKETS)) / 40, rng.random((5, reranker.BUCKETS)) / 40
    interactions, labels = rng.normal(size=(3, 5, reranker.Features.count)), np.array([0, 4, 2])
    model.weights = {name: value.astype(float) for name, value in model.weights.items()}
    model.first = {name: np.zeros_like(value) for name, value in model.weights.items()}

    def loss() -> float:
        scores = model.scores(queries, interactions, passages)
        return float(np.mean(np.log(np.exp(scores).sum(axis=1)) - scores[np.arange(3), labels]))

    before = loss()
    expected = {}
    for name, value in model.weights.items():
        spot = tuple(0 for _ in value.shape)
        kept = value[spot]
        value[spot] = kept + 1e-5
        up = loss()
        value[spot] = kept - 1e-5
        expected[name] = (up - loss()) / 2e-5
        value[spot] = kept
    assert model.step(queries, interactions, passages, labels, rate=0.0) == pytest.approx(before)
    for name, gradient in expected.items():
        found = model.first[name][tuple(0 for _ in model.first[name].shape)] * 10  # Adam keeps a tenth of the first
        assert found == pytest.approx(gradient, rel=1e-3, abs=1e-7), name


def test_data_is_well_formed(reranker):
    triples = reranker.load_triples(DATA)
    assert 75 <= len(triples) <= 100
    assert len({triple["query"] for triple in triples}) == len(triples)
    assert len({triple["positive"] for triple in triples}) == len(triples)
    assert all(triple["positive"] != triple["negative"] for triple in triples)


def test_held_out_answers_are_never_trained_on(reranker):
    task = reranker.Task(reranker.load_triples(DATA))
    pool = {task.passages[at] for at in task.pool}
    assert not pool & {triple["positive"] for triple in task.test}
    assert not {triple["query"] for triple in task.train} & {triple["query"] for triple in task.test}
    for row, label in enumerate(task.train_labels[: len(task.train)]):
        assert task.passages[task.pool[label]] == task.train[row]["positive"]


def test_candidates_are_the_answer_and_nine_others(reranker):
    task = reranker.Task(reranker.load_triples(DATA))
    for triple, chosen in zip(task.test, task.candidates, strict=True):
        assert len(set(chosen)) == len(chosen) == 10
        assert task.passages[chosen[0]] == triple["positive"]


def test_training_beats_the_start_and_bm25(short_run):
    _, out = short_run
    metrics = json.loads((out / "metrics.json").read_text())
    assert metrics["mrr_at_10_trained"] > metrics["mrr_at_10_untrained"] + 0.2
    assert metrics["mrr_at_10_trained"] > metrics["mrr_at_10_bm25"]
    assert metrics["mrr_at_10_bm25"] > 0.5, "a weak baseline proves nothing"


def test_results_are_complete_and_agree(short_run):
    done, out = short_run
    metrics = json.loads((out / "metrics.json").read_text())
    assert set(metrics) == {
        "mrr_at_10_bm25",
        "mrr_at_10_untrained",
        "mrr_at_10_trained",
        "epochs",
        "seconds",
        "queries_train",
        "queries_test",
        "seed",
    }
    rankings = [json.loads(line) for line in (out / "rankings.jsonl").read_text().splitlines()]
    assert len(rankings) == metrics["queries_test"]
    assert sum(1 / row["rank_trained"] for row in rankings) / len(rankings) == pytest.approx(
        metrics["mrr_at_10_trained"], abs=1e-5
    )
    assert all([p["relevant"] for p in row["passages"]].index(True) + 1 == row["rank_trained"] for row in rankings)
    with np.load(out / "model.npz") as model:
        assert int(model["epoch"]) == 15
        assert all(np.isfinite(model[name]).all() for name in model.files)
    assert sum(line.startswith("epoch ") for line in done.stdout.splitlines()) == 15
    assert 'Your query: "my cloud bill is too high"' in done.stdout
    assert not list(out.glob("*.part"))


def test_same_seed_same_result_other_seed_other_result(tmp_path):
    for name, seed in (("first", "7"), ("again", "7"), ("other", "8")):
        done = run("--epochs", "2", "--seed", seed, "--output", name, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
    rankings = {name: (tmp_path / name / "rankings.jsonl").read_bytes() for name in ("first", "again", "other")}
    assert rankings["first"] == rankings["again"]
    assert rankings["first"] != rankings["other"]


def test_sigterm_saves_a_checkpoint(tmp_path):
    with subprocess.Popen(
        [sys.executable, str(SCRIPT), "--epochs", "100000", "--output", "out"],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": ""},  # the script must flush by itself
    ) as process:
        try:
            for line in process.stdout:
                if line.startswith("epoch 2/"):
                    break
            process.send_signal(signal.SIGTERM)
            rest, errors = process.communicate(timeout=60)
        finally:
            process.kill()
    assert process.returncode == 143, errors
    assert "checkpoint.npz" in rest
    with np.load(tmp_path / "out" / "checkpoint.npz") as checkpoint:
        assert int(checkpoint["epoch"]) >= 2
        assert int(checkpoint["steps"]) > 0
        assert checkpoint["weights_embedding"].shape == checkpoint["first_embedding"].shape
    assert not (tmp_path / "out" / "model.npz").exists()


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (None, "cannot be read (No such file or directory)"),
        (b"\xff\xfe", "not UTF-8"),
        (b"not json\n", "line 1 is not a triple"),
        (b'\n{"query": "a", "positive": "b"}\n', "line 2 is not a triple"),
        (b'{"query": "a", "positive": "", "negative": "c"}\n', "line 1 has an empty text"),
        (b"", "0 examples"),
    ],
    ids=["missing", "binary", "not-json", "no-negative", "empty-text", "empty-file"],
)
def test_bad_data_is_one_clear_line(tmp_path, content, expected):
    path = tmp_path / "mine.jsonl"
    if content is not None:
        path.write_bytes(content)
    done = run("--data", str(path), "--output", "out", cwd=tmp_path)
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert f"--data {path}" in done.stderr
    assert expected in done.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("arguments", [("--epochs", "0"), ("--epochs", "many"), ("--seed", "-1")])
def test_bad_numbers_are_told(tmp_path, arguments):
    done = run(*arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert "is not a whole number from" in done.stderr


def test_unwritable_output_is_one_clear_line(tmp_path):
    (tmp_path / "taken").write_text("a file, not a folder")
    done = run("--epochs", "1", "--output", "taken", cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith("train.py: --output taken: cannot be written")
    assert len(done.stderr.splitlines()) == 1
