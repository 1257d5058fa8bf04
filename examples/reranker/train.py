"""Train a small passage re-ranker with nothing but NumPy.

Every line of the data file is a triple: a query, the passage that answers it, and a hard negative, that is, a passage
that shares words with the query and answers something else. A lexical ranking (BM25) is the baseline. The model adds
to it what it learns from the training queries:

* hand-made interaction features of a query and a passage (BM25 over words, stems and character n-grams, shared rare
  words, shared prefixes, latent topics of the passages), mixed by a small neural layer;
* a bilinear score over hashed word and character n-gram features, which can learn that "bill" and "cost" belong
  together although they share no letter.

The loss is a listwise softmax: the right passage against all the others. Held-out queries are chosen by a hash of
their text, so the split depends on neither the seed nor the order of the lines.

    python train.py
    python train.py --epochs 50 --query "why is my cloud bill so high"
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import os
import re
import signal
import sys
import time
import zlib
from collections import Counter
from pathlib import Path

# The matrices are small: more threads would only wait for each other, and one adds up in the same order every time.
for _library in ("OMP", "OPENBLAS", "MKL"):
    os.environ[f"{_library}_NUM_THREADS"] = "1"

import numpy as np

HERE = Path(__file__).resolve().parent
DEFAULT_EPOCHS = 150
HELD_OUT_PERCENT = 30
CANDIDATES = 10
BUCKETS = 4096
EMBEDDING = 32
HIDDEN = 16
TOPICS = 16
BATCH = 16
VIEWS = 6
WORD_DROPOUT = 0.25
LEARNING_RATE = 0.00015
WEIGHT_DECAY = 0.02
STOPPED = 143  # 128 + SIGTERM, what a shell reports for a process that the signal ended

STOP_WORDS = frozenset(
    re.findall(
        "[a-z]+",
        "a an and are as at be by can do does for from how i if in into is it its my not of on or out so than that "
        "the their then there this to was we what when where which who why will with you your",
    )
)


class DataError(Exception):
    """The data file cannot be used; the text is one line for a person."""


# --- data ------------------------------------------------------------------------------------------------------------


def load_triples(path: str | Path) -> list[dict[str, str]]:
    """Read the examples.

    Args:
        path: A file of JSON lines, each with the texts `query`, `positive` and `negative`.

    Returns:
        The examples in the order of the file, as dictionaries of those three texts.

    Raises:
        DataError: The file cannot be read, a line is not such a triple, or one of the two parts would be empty.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8 text"
        raise DataError(f"--data {path}: cannot be read ({reason}); give a file of JSON lines") from error
    triples = []
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
            triple = {key: row[key] for key in ("query", "positive", "negative")}
        except (ValueError, KeyError, TypeError) as error:
            raise DataError(
                f"--data {path}: line {number} is not a triple; write "
                '{"query": "...", "positive": "...", "negative": "..."} on each line'
            ) from error
        if not all(isinstance(value, str) and value.strip() for value in triple.values()):
            raise DataError(f"--data {path}: line {number} has an empty text or one that is not a string; fill it in")
        triples.append(triple)
    held_out = sum(is_held_out(triple["query"]) for triple in triples)
    if held_out == 0 or len(triples) - held_out < 2:
        raise DataError(
            f"--data {path}: {len(triples)} examples leave {len(triples) - held_out} for training and {held_out} held "
            "out; add more (ten or so are enough to start)"
        )
    return triples


def is_held_out(query: str) -> bool:
    """Tell whether a query belongs to the held-out part: by a hash of its text, so the answer never changes."""
    return int(hashlib.sha256(query.encode("utf-8")).hexdigest(), 16) % 100 < HELD_OUT_PERCENT


# --- text ------------------------------------------------------------------------------------------------------------


def words_of(text: str) -> list[str]:
    """Return the lower-case words and numbers of a text, without the most common ones."""
    return [word for word in re.findall(r"[a-z0-9]+", text.lower()) if word not in STOP_WORDS]


def stem(word: str) -> str:
    """Cut a common English ending, so that "trains", "trained" and "training" become the same."""
    for ending in ("ations", "ation", "ings", "ing", "ies", "ied", "est", "ers", "ed", "er", "es", "ly", "s", "e", "y"):
        if word.endswith(ending) and len(word) - len(ending) >= 3:
            return word[: -len(ending)]
    return word


def char_ngrams(word: str) -> list[str]:
    """Return the character 3-, 4- and 5-grams of a word, its borders marked by `<` and `>`."""
    marked = f"<{word}>"
    return [marked[at : at + size] for size in (3, 4, 5) for at in range(len(marked) - size + 1)]


def hashed_counts(documents: list[list[str]], kind: str) -> np.ndarray:
    """Count terms in hashed buckets.

    Args:
        documents: The terms of each document.
        kind: A name for the kind of term, so that a word and an n-gram of the same letters get separate buckets.

    Returns:
        A matrix of shape (documents, BUCKETS). CRC-32 is used as Python's own hash differs from run to run.
    """
    counts = np.zeros((len(documents), BUCKETS), dtype=np.float32)
    for row, terms in enumerate(documents):
        for term, count in Counter(terms).items():
            counts[row, zlib.crc32(f"{kind}:{term}".encode()) % BUCKETS] += count
    return counts


def unit_rows(matrix: np.ndarray) -> np.ndarray:
    """Scale each row to length one; rows of zeros stay."""
    return matrix / np.maximum(np.linalg.norm(matrix, axis=1, keepdims=True), 1e-9)


# --- metrics and the lexical baseline --------------------------------------------------------------------------------


def reciprocal_rank(scores: np.ndarray, positive: int, cutoff: int = 10) -> float:
    """Return one divided by the rank of the right passage, or 0.0 beyond the cutoff.

    Args:
        scores: One score per candidate, higher is better.
        positive: The index of the right passage.
        cutoff: The last rank that counts.

    Ties count against the model: a score that says nothing must not look good by the order of the candidates.
    """
    rank = int(np.sum(np.delete(scores, positive) >= scores[positive])) + 1
    return 1.0 / rank if rank <= cutoff else 0.0


def mean_reciprocal_rank(lists: list[tuple[np.ndarray, int]], cutoff: int = 10) -> float:
    """Return MRR@cutoff, between 0 and 1, of several lists, each a pair of scores and the right index."""
    return float(np.mean([reciprocal_rank(scores, positive, cutoff) for scores, positive in lists])) if lists else 0.0


class BM25:
    """BM25 over any kind of term: the classic lexical ranking.

    Args:
        documents: The terms of each passage. The rarity of terms and the mean length come from here.
        k1: How soon a repeated term stops adding to the score.
        b: How much a long passage is held back, from 0 to 1.
    """

    def __init__(self, documents: list[list[str]], k1: float = 1.2, b: float = 0.75) -> None:
        self.columns = {term: column for column, term in enumerate(sorted({t for terms in documents for t in terms}))}
        counts = np.zeros((len(documents), len(self.columns)), dtype=np.float32)
        for row, terms in enumerate(documents):
            for term in terms:
                counts[row, self.columns[term]] += 1
        frequency = (counts > 0).sum(axis=0)
        self.idf = np.log(1 + (len(documents) - frequency + 0.5) / (frequency + 0.5)).astype(np.float32)
        self.unseen_idf = math.log(1 + (len(documents) + 0.5) / 0.5)
        length = counts.sum(axis=1, keepdims=True)
        saturation = counts + k1 * (1 - b + b * length / max(float(length.mean()), 1e-9))
        self.weights = self.idf * counts * (k1 + 1) / saturation
        self.present = self.idf * (counts > 0)

    def _query_matrix(self, queries: list[list[str]]) -> np.ndarray:
        matrix = np.zeros((len(queries), len(self.columns)), dtype=np.float32)
        for row, terms in enumerate(queries):
            for term in set(terms):
                if term in self.columns:
                    matrix[row, self.columns[term]] = 1
        return matrix

    def scores(self, queries: list[list[str]]) -> np.ndarray:
        """Return the BM25 scores, shape (queries, documents), for the terms of each query."""
        return self._query_matrix(queries) @ self.weights.T

    def coverage(self, queries: list[list[str]]) -> np.ndarray:
        """Return the share, 0 to 1 and weighted by rarity, of each query's terms that each document contains."""
        total = [
            sum(float(self.idf[self.columns[t]]) if t in self.columns else self.unseen_idf for t in set(terms))
            for terms in queries
        ]
        return (self._query_matrix(queries) @ self.present.T) / np.maximum(np.array(total), 1e-9)[:, None]


# --- features --------------------------------------------------------------------------------------------------------


class Features:
    """All that can be computed from texts without any label.

    Args:
        passages: The texts to rank. Rarity of words and the latent topics are taken from them alone: no query, and
            so no answer, is looked at here.
    """

    count = 8

    def __init__(self, passages: list[str]) -> None:
        tokens = [words_of(text) for text in passages]
        self.views = [BM25([self._view(name, words) for words in tokens]) for name in ("word", "stem", "gram", "head")]
        counts = self._hashed(tokens)
        frequency = (counts > 0).sum(axis=0)
        self.idf = np.log((1 + len(passages)) / (1 + frequency)).astype(np.float32) + 1
        self.passage_vectors = self.vectors(tokens)
        _, _, directions = np.linalg.svd(self.passage_vectors, full_matrices=False)
        self.directions = directions[:TOPICS].T
        self.passage_topics = unit_rows(self.passage_vectors @ self.directions)

    @staticmethod
    def _view(name: str, words: list[str]) -> list[str]:
        if name == "stem":
            return [stem(word) for word in words]
        if name == "gram":
            return [gram for word in words for gram in char_ngrams(word)]
        if name == "head":
            return [word[:4] for word in words]
        return words

    def _hashed(self, documents: list[list[str]]) -> np.ndarray:
        stems = hashed_counts([self._view("stem", words) for words in documents], "stem")
        return stems + 0.3 * hashed_counts([self._view("gram", words) for words in documents], "gram")

    def vectors(self, documents: list[list[str]]) -> np.ndarray:
        """Return hashed word and n-gram vectors of length one, shape (documents, BUCKETS), for the bilinear score."""
        return unit_rows(np.sqrt(self._hashed(documents)) * self.idf)

    def interactions(self, queries: list[list[str]], vectors: np.ndarray) -> np.ndarray:
        """Compare each query with each passage.

        Args:
            queries: The words of each query.
            vectors: Their vectors, from `vectors`.

        Returns:
            An array of shape (queries, passages, count).
        """
        word, stems, grams, heads = self.views
        by_view = {name: [self._view(name, words) for words in queries] for name in ("stem", "gram", "head")}
        return np.stack(
            [
                word.scores(queries),
                stems.scores(by_view["stem"]),
                grams.scores(by_view["gram"]) / 10,
                stems.coverage(by_view["stem"]) * 5,
                grams.coverage(by_view["gram"]) * 5,
                heads.coverage(by_view["head"]) * 5,
                vectors @ self.passage_vectors.T * 5,
                unit_rows(vectors @ self.directions) @ self.passage_topics.T * 3,
            ],
            axis=2,
        ).astype(np.float32)


# --- the model -------------------------------------------------------------------------------------------------------


class Reranker:
    """A neural layer over interaction features plus a bilinear score over hashed features.

    Args:
        seed: Decides the initial weights.
    """

    def __init__(self, seed: int) -> None:
        # Small last weights: what training adds soon outweighs what the seed happened to favor.
        rng = np.random.default_rng([seed, 0])
        self.weights = {
            "embedding": rng.normal(0, EMBEDDING**-0.5, (BUCKETS, EMBEDDING)),
            "diagonal": rng.normal(0, 0.05, EMBEDDING),
            "hidden": rng.normal(0, Features.count**-0.5, (Features.count, HIDDEN)),
            "bias": np.zeros(HIDDEN),
            "output": rng.normal(0, 0.1 * HIDDEN**-0.5, HIDDEN),
            "linear": rng.normal(0, 0.01, Features.count),
        }
        self.weights = {name: value.astype(np.float32) for name, value in self.weights.items()}
        self.first = {name: np.zeros_like(value) for name, value in self.weights.items()}
        self.second = {name: np.zeros_like(value) for name, value in self.weights.items()}
        self.steps = 0

    def scores(self, vectors: np.ndarray, interactions: np.ndarray, passages: np.ndarray) -> np.ndarray:
        """Return scores, shape (queries, passages), higher is better, from what `Features` made of the texts."""
        w = self.weights
        bilinear = (vectors @ w["embedding"] * w["diagonal"]) @ (passages @ w["embedding"]).T
        hidden = np.tanh(interactions @ w["hidden"] + w["bias"])
        return hidden @ w["output"] + interactions @ w["linear"] + bilinear

    def step(
        self, vectors: np.ndarray, interactions: np.ndarray, passages: np.ndarray, labels: np.ndarray, rate: float
    ) -> float:
        """Learn from one batch.

        Args:
            vectors: Hashed vectors of the queries.
            interactions: Their interaction features with all passages.
            passages: Hashed vectors of the passages.
            labels: The index of the right passage of each query.
            rate: The learning rate.

        Returns:
            The loss before the update: the mean negative log-likelihood (in nats) of the right passage.
        """
        w = self.weights
        left, right = vectors @ w["embedding"], passages @ w["embedding"]
        hidden = np.tanh(interactions @ w["hidden"] + w["bias"])
        scores = hidden @ w["output"] + interactions @ w["linear"] + (left * w["diagonal"]) @ right.T
        scores -= scores.max(axis=1, keepdims=True)
        chance = np.exp(scores)
        chance /= chance.sum(axis=1, keepdims=True)
        rows = np.arange(len(labels))
        loss = float(-np.log(np.maximum(chance[rows, labels], 1e-12)).mean())

        error = chance
        error[rows, labels] -= 1
        error /= len(labels)
        back = error[:, :, None] * w["output"] * (1 - hidden**2)
        pull = error @ right
        self._adam(
            {
                "embedding": vectors.T @ (pull * w["diagonal"]) + passages.T @ (error.T @ (left * w["diagonal"])),
                "diagonal": (left * pull).sum(axis=0),
                "hidden": np.einsum("qpf,qph->fh", interactions, back),
                "bias": back.sum(axis=(0, 1)),
                "output": np.einsum("qp,qph->h", error, hidden),
                "linear": np.einsum("qp,qpf->f", error, interactions),
            },
            rate,
        )
        return loss

    def _adam(self, gradients: dict[str, np.ndarray], rate: float) -> None:
        self.steps += 1
        for name, gradient in gradients.items():
            first, second = self.first[name], self.second[name]
            first += 0.1 * (gradient - first)
            second += 0.001 * (gradient**2 - second)
            corrected = (first / (1 - 0.9**self.steps)) / (np.sqrt(second / (1 - 0.999**self.steps)) + 1e-8)
            self.weights[name] -= rate * (corrected + WEIGHT_DECAY * self.weights[name])

    def save(self, path: Path, **facts: int) -> None:
        """Write weights and optimizer state in one move, so that an interruption never leaves half a file.

        Args:
            path: The `.npz` file to write.
            facts: Whole numbers to keep beside the weights, such as the epoch.
        """
        arrays = {f"weights_{name}": value for name, value in self.weights.items()}
        arrays.update({f"first_{name}": value for name, value in self.first.items()})
        arrays.update({f"second_{name}": value for name, value in self.second.items()})
        temporary = path.with_name(path.name + ".part")
        with temporary.open("wb") as stream:
            np.savez(stream, steps=self.steps, **facts, **arrays)
        temporary.replace(path)


# --- training --------------------------------------------------------------------------------------------------------


class Task:
    """The examples, split and turned into matrices.

    Args:
        triples: What `load_triples` returned.
    """

    def __init__(self, triples: list[dict[str, str]]) -> None:
        self.train = [triple for triple in triples if not is_held_out(triple["query"])]
        self.test = [triple for triple in triples if is_held_out(triple["query"])]
        # Every passage once, in a stable order.
        self.passages = list(dict.fromkeys([t["positive"] for t in triples] + [t["negative"] for t in triples]))
        index = {text: at for at, text in enumerate(self.passages)}
        self.features = Features(self.passages)

        # Answers to held-out queries are kept out of training altogether: as negatives they would be learned as wrong.
        hidden = {t["positive"] for t in self.test} - {t["positive"] for t in self.train}
        self.pool = np.array([at for at, text in enumerate(self.passages) if text not in hidden])
        place = {int(at): position for position, at in enumerate(self.pool)}

        # Each query once whole and then in views that lost some words by chance, which keeps the model from relying on
        # a single word. The views have a fixed seed of their own: they belong to the data.
        rng = np.random.default_rng(0)
        train_words = [words_of(t["query"]) for t in self.train]
        views = [words if view == 0 else thinned(words, rng) for view in range(VIEWS) for words in train_words]
        self.train_vectors = self.features.vectors(views)
        self.train_interactions = self.features.interactions(views, self.train_vectors)[:, self.pool]
        self.train_labels = np.array([place[index[t["positive"]]] for t in self.train] * VIEWS)

        test_words = [words_of(t["query"]) for t in self.test]
        self.test_vectors = self.features.vectors(test_words)
        self.test_interactions = self.features.interactions(test_words, self.test_vectors)
        self.bm25_scores = self.features.views[0].scores(test_words)
        self.candidates = [
            hard_candidates(self.bm25_scores[row], self.test_vectors[row] @ self.features.passage_vectors.T, at)
            for row, at in enumerate(index[t["positive"]] for t in self.test)
        ]

    def lists(self, scores: np.ndarray) -> list[tuple[np.ndarray, int]]:
        """Cut scores of shape (test queries, passages) to each query's candidates, the right passage first."""
        return [(scores[row, chosen], 0) for row, chosen in enumerate(self.candidates)]

    def model_scores(self, model: Reranker) -> np.ndarray:
        """Return the model's scores, shape (test queries, passages)."""
        return model.scores(self.test_vectors, self.test_interactions, self.features.passage_vectors)

    def epoch(self, model: Reranker, rng: np.random.Generator, rate: float, stop: StopSignal) -> float:
        """Learn once from every view of every training query.

        Returns:
            The mean loss (in nats) of the batches done; a stop request ends the epoch after the current batch.
        """
        losses = []
        passages = self.features.passage_vectors[self.pool]
        order = rng.permutation(len(self.train_labels))
        for start in range(0, len(order), BATCH):
            if stop.requested:
                break
            rows = order[start : start + BATCH]
            vectors, interactions = self.train_vectors[rows], self.train_interactions[rows]
            losses.append(model.step(vectors, interactions, passages, self.train_labels[rows], rate))
        return float(np.mean(losses)) if losses else 0.0


class StopSignal:
    """Remembers that SIGTERM came, so that training ends between two batches and not in the middle of a file."""

    def __init__(self) -> None:
        self.requested = False

    def __call__(self, *_: object) -> None:
        self.requested = True


def hard_candidates(lexical: np.ndarray, similarity: np.ndarray, positive: int) -> list[int]:
    """Choose what a query is tested on: the right passage first, then the wrong ones that look most like the query.

    Args:
        lexical: BM25 scores of all passages.
        similarity: Similarity of n-grams, which orders passages that share no word with the query.
        positive: The index of the right passage.

    Returns:
        Up to CANDIDATES indexes of passages.
    """
    order = np.lexsort((-similarity, -lexical))
    wrong = [int(at) for at in order if at != positive]
    return [positive, *wrong[: CANDIDATES - 1]]


def thinned(words: list[str], rng: np.random.Generator) -> list[str]:
    """Drop each word with the chance WORD_DROPOUT; a query that would lose all of them is left whole."""
    kept = [word for word in words if rng.random() >= WORD_DROPOUT]
    return kept or words


def rank_all(task: Task, model: Reranker, query: str) -> list[tuple[float, str]]:
    """Rank every passage for one query.

    Returns:
        Pairs of score and text, best first.
    """
    words = [words_of(query)]
    vectors = task.features.vectors(words)
    interactions = task.features.interactions(words, vectors)
    scores = model.scores(vectors, interactions, task.features.passage_vectors)[0]
    return [(float(scores[at]), task.passages[at]) for at in np.argsort(-scores, kind="stable")]


def write_results(task: Task, model: Reranker, output: Path, metrics: dict[str, float]) -> list[dict]:
    """Write `model.npz`, `metrics.json` and `rankings.jsonl` into the output folder.

    Returns:
        The rankings: per held-out query its text, the ranks of the right passage, and the candidates, best first.
    """
    scores = task.model_scores(model)
    rankings = []
    for row, chosen in enumerate(task.candidates):
        ranked = sorted(chosen, key=lambda at, row=row: (-scores[row, at], at))
        lexical = task.bm25_scores[row, chosen]
        rankings.append(
            {
                "query": task.test[row]["query"],
                "rank_bm25": int(np.sum(lexical[1:] >= lexical[0])) + 1,
                "rank_trained": int(np.sum(scores[row, chosen[1:]] >= scores[row, chosen[0]])) + 1,
                "passages": [
                    {
                        "text": task.passages[at],
                        "score": round(float(scores[row, at]), 4),
                        "bm25": round(float(task.bm25_scores[row, at]), 4),
                        "relevant": at == chosen[0],
                    }
                    for at in ranked
                ],
            }
        )
    model.save(output / "model.npz", epoch=int(metrics["epochs"]), seed=int(metrics["seed"]))
    write_text(output / "rankings.jsonl", "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rankings))
    write_text(output / "metrics.json", json.dumps(metrics, indent=2) + "\n")
    return rankings


def write_text(path: Path, text: str) -> None:
    """Write a file in one move."""
    temporary = path.with_name(path.name + ".part")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(path)


def say(line: str = "") -> None:
    """Print a line at once: whoever follows the log of a job sees it when it happens."""
    print(line, flush=True)


def show_example(rankings: list[dict]) -> None:
    """Print the held-out query that re-ranking helped most, with its first three passages."""
    best = max(rankings, key=lambda row: (1 / row["rank_trained"] - 1 / row["rank_bm25"], -row["rank_trained"]))
    say(f'Example: "{best["query"]}"')
    say(f"  The right passage was at rank {best['rank_bm25']} with BM25 and is now at rank {best['rank_trained']}:")
    for rank, passage in enumerate(best["passages"][:3], start=1):
        mark = "*" if passage["relevant"] else " "
        say(f"  {mark} {rank}. {passage['text']}")


def train(args: argparse.Namespace, stop: StopSignal) -> int:
    """Run the whole job.

    Returns:
        The exit status: 0, or STOPPED after SIGTERM.

    Raises:
        DataError: The data file cannot be used.
        OSError: The results cannot be written.
    """
    started = time.monotonic()
    task = Task(load_triples(args.data))
    output = Path(args.output)
    output.mkdir(parents=True, exist_ok=True)
    model = Reranker(args.seed)
    rng = np.random.default_rng([args.seed, 1])
    bm25 = mean_reciprocal_rank(task.lists(task.bm25_scores))
    untrained = mean_reciprocal_rank(task.lists(task.model_scores(model)))
    say(
        f"{len(task.train)} queries to learn from, {len(task.test)} held out, {len(task.passages)} passages, "
        f"{CANDIDATES} candidates for each held-out query"
    )
    say(f"MRR@10 at the start: BM25 {bm25:.3f}, untrained model {untrained:.3f}")

    for epoch in range(1, args.epochs + 1):
        # The rate falls along half a cosine, so the last epochs only polish.
        rate = LEARNING_RATE * 0.5 * (1 + math.cos(math.pi * (epoch - 1) / args.epochs))
        loss = task.epoch(model, rng, rate, stop)
        if stop.requested:
            path = output / "checkpoint.npz"
            model.save(path, epoch=epoch - 1, seed=args.seed)
            say(f"Stopped by SIGTERM in epoch {epoch}: the weights so far are in {path}.")
            return STOPPED
        trained = mean_reciprocal_rank(task.lists(task.model_scores(model)))
        seconds = time.monotonic() - started
        say(f"epoch {epoch}/{args.epochs}  loss {loss:.4f}  held-out MRR@10 {trained:.3f}  {seconds:.1f} s")

    metrics = {
        "mrr_at_10_bm25": round(bm25, 6),
        "mrr_at_10_untrained": round(untrained, 6),
        "mrr_at_10_trained": round(trained, 6),
        "epochs": args.epochs,
        "seconds": round(time.monotonic() - started, 3),
        "queries_train": len(task.train),
        "queries_test": len(task.test),
        "seed": args.seed,
    }
    rankings = write_results(task, model, output, metrics)
    say()
    say(f"MRR@10 on {len(task.test)} held-out queries: {untrained:.3f} before, {trained:.3f} after (BM25 {bm25:.3f})")
    say()
    show_example(rankings)
    if args.query:
        say()
        say(f'Your query: "{args.query}"')
        for rank, (score, text) in enumerate(rank_all(task, model, args.query)[:3], start=1):
            say(f"    {rank}. [{score:.2f}] {text}")
    say()
    say(f"Results are in {output}: model.npz, metrics.json and rankings.jsonl.")
    return 0


def whole_number(least: int):
    """Return a parser of whole numbers from `least` on, for argparse."""

    def parse(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            value = least - 1
        if value < least:
            raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from {least} on")
        return value

    return parse


def main(arguments: list[str] | None = None) -> int:
    """Parse the command line (by default the process's own) and train.

    Returns:
        The exit status: 0, 2 for input that cannot be used, 143 after SIGTERM.
    """
    parser = argparse.ArgumentParser(description="Train a small passage re-ranker with NumPy.")
    parser.add_argument(
        "--data", default=str(HERE / "data" / "triples.jsonl"), help="JSON lines (default: %(default)s)"
    )
    parser.add_argument("--output", default="results", help="folder for the results (default: %(default)s)")
    parser.add_argument("--epochs", type=whole_number(1), default=DEFAULT_EPOCHS, help="default: %(default)s")
    parser.add_argument("--seed", type=whole_number(0), default=0, help="default: %(default)s")
    parser.add_argument("--query", metavar="TEXT", help="re-rank all passages for this query after training")
    args = parser.parse_args(arguments)
    stop = StopSignal()
    signal.signal(signal.SIGTERM, stop)
    try:
        return train(args, stop)
    except DataError as error:
        message = str(error)
    except OSError as error:
        message = f"--output {args.output}: cannot be written ({error.strerror}); choose another folder"
    print(f"train.py: {message}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main())
