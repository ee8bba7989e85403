"""
Linear probes of the information in an embedding: from each frozen encoder to the labels of the console's memory::

    OMP_NUM_THREADS=1 python benchmarks/probes.py --cache play --output benchmarks/results/probes.csv

Every encoder is trained on random play of a game; the probes are fitted to its standardised embeddings of the same episodes,
and evaluated on held-out episodes: R2 of ridge regression for positions and other quantities, macro F1 of logistic regression
for labels with few values, without values rarer than 1 %. The labels are those of ``ram_labels.py``. A further metric is the
rank correlation between the distances of two frames of an episode in time and in the embedding, the mean over the held-out
episodes. Cells that are already in the CSV are not computed again.
"""

import argparse
import time
from pathlib import Path

import numpy as np
import pandas as pd
import torch as th
from ram_labels import LABELS, Kind
from random_play import append_results, cached_play, is_done, read_results, split
from scipy.stats import spearmanr
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import f1_score
from sklearn.preprocessing import StandardScaler
from tqdm import tqdm

from sb3_lwm.common.type_aliases import Play
from sb3_lwm.figures.encoder_training import cached_encoder, embed
from sb3_lwm.world_model.objectives import OBJECTIVES

PLAY_SEED = 0
# The probes use every second row, since consecutive frames hardly differ
PROBE_EVERY = 2
# The share below which a value is too rare for the F1
RAREST = 0.01
# The maximum distance of two frames, in rows: all pairs of an episode, and close ones only
MAX_LAGS = {"time_distance": None, "time_distance_within_50": 50}
PAIRS_OF_AN_EPISODE, SHORTEST_EPISODE = 2_000, 20

Rows = list[dict[str, object]]


def thin(data: Play) -> Play:
    """Return every ``PROBE_EVERY``-th row."""
    return Play(*(column[::PROBE_EVERY] for column in data[:4]), data.n_actions)


def classify(features: list[np.ndarray], labels: list[np.ndarray]) -> float:
    """
    :param features: The embeddings of training and test, (N, Z) float each
    :param labels: The labels of training and test, (N,) int64 each
    :return: The macro F1 of the values that occur in both parts; NaN if there are fewer than two
    """
    counts = [dict(zip(*np.unique(part, return_counts=True), strict=True)) for part in labels]
    total = sum(map(len, labels))
    common = [value for value in counts[0] if value in counts[1] and counts[0][value] + counts[1][value] >= RAREST * total]
    if len(common) < 2:
        return float("nan")
    (features_train, features_test), rows = features, [np.isin(part, common) for part in labels]
    model = LogisticRegression(max_iter=1000).fit(features_train[rows[0]], labels[0][rows[0]])
    return float(f1_score(labels[1][rows[1]], model.predict(features_test[rows[1]]), average="macro"))


def probe(game: str, features: list[np.ndarray], train: Play, test: Play) -> Rows:
    """
    :param game: The game, with its labels
    :param features: The standardised embeddings of training and test, (N, Z) float each
    :param train: The random play on which the probes are fitted
    :param test: The random play on which they are evaluated
    :return: A row for each label and metric
    """
    rows: Rows = []
    for name, label in LABELS[game].items():
        values = [label.read(part.rams) for part in (train, test)]
        if label.kind is not Kind.CATEGORY:
            score = Ridge(alpha=1.0).fit(features[0], values[0]).score(features[1], values[1])
            rows.append({"label": name, "metric": "R2", "value": score})
        if label.kind is not Kind.POSITION:
            rows.append({"label": name, "metric": "F1", "value": classify(features, values)})
    return rows


def compare_distances(features: np.ndarray, data: Play, seed: int) -> Rows:
    """
    :param features: The standardised embeddings, (N, Z) float
    :param data: The random play
    :param seed: The seed of the pairs
    :return: A row for each of ``MAX_LAGS``, with Spearman's rank correlation of the distances in time and in the embedding
    """
    rng = np.random.default_rng(seed)
    rows: Rows = []
    for name, max_lag in MAX_LAGS.items():
        correlations = []
        for episode in np.unique(data.episodes):
            points = features[data.episodes == episode]
            if len(points) < SHORTEST_EPISODE:
                continue
            longest = min(len(points) - 1, max_lag or len(points))
            lags = rng.integers(1, longest + 1, PAIRS_OF_AN_EPISODE)
            first = rng.integers(0, len(points) - lags)
            distances = np.linalg.norm(points[first + lags] - points[first], axis=1)
            correlations.append(spearmanr(lags, distances).statistic)
        rows.append({"label": name, "metric": "rank correlation", "value": float(np.mean(correlations))})
    return rows


def run_cell(cell: dict[str, object], data: Play, arguments: argparse.Namespace) -> None:
    """
    Train an encoder, compute all its metrics, and add them to the CSV.

    :param cell: The game, objective, seed, updates and frames of the encoder
    :param data: The random play of the game
    :param arguments: The arguments of the command line
    """
    game, objective, seed = str(cell["game"]), str(cell["objective"]), int(str(cell["seed"]))
    train, test = split(data, seed)
    start = time.perf_counter()
    name = f"{game}_{arguments.frames}"
    encoder, logs = cached_encoder(arguments.cache, name, lambda: train, objective, seed, arguments.updates)
    extra = {"held_out_episodes": len(np.unique(test.episodes)), "seconds": time.perf_counter() - start, **logs}
    train = thin(train)
    scaler = StandardScaler()
    features = [scaler.fit_transform(embed(encoder, train.frames)), scaler.transform(embed(encoder, test.frames))]
    rows = probe(game, features, train, test) + compare_distances(features[1], test, seed)
    append_results(arguments.output, [cell | row | extra for row in rows])
    means = pd.DataFrame(rows).groupby("metric")["value"].mean().round(3).to_dict()
    print(f"\n{game}, {objective}, seed {seed}: {means}", flush=True)


def run_game(game: str, seed: int, arguments: argparse.Namespace) -> None:
    """Compute the missing cells of a game and a seed."""
    data = None
    for objective in tqdm(arguments.objectives, desc=f"{game}, seed {seed}", unit="encoder"):
        cell = {"game": game, "objective": objective, "seed": seed}
        cell |= {"updates": arguments.updates, "frames": arguments.frames}
        if not is_done(read_results(arguments.output), cell):
            data = data or cached_play(arguments.cache, game, arguments.frames, PLAY_SEED)
            run_cell(cell, data, arguments)


def print_tables(results: pd.DataFrame) -> None:
    """Print the value of every seed and the mean for each label, then the means of each game, then the best encoders."""
    keys = ["game", "updates", "frames", "metric"]
    labels = results.pivot_table("value", [*keys, "label", "objective"], "seed", sort=False).add_prefix("seed ")
    labels = labels.assign(mean=labels.mean(axis=1)).sort_index(level=[*keys, "label"], sort_remaining=False)
    print(labels.to_string(float_format="%.3f"))
    means = results.groupby([*keys, "objective", "seed"], sort=False)["value"].mean().map("{:.2f}".format)
    table = means.groupby([*keys, "objective"], sort=False).agg(", ".join).unstack("objective")
    columns = [name for name in OBJECTIVES if name in table]
    print("\n| | " + " | ".join(columns) + " |\n|" + "---|" * (1 + len(columns)))
    for (game, _, _, metric), row in table.iterrows():
        print(f"| {game}, {metric} | " + " | ".join(row[columns]) + " |")
    if "w-mse" in columns:
        print_better_ones(labels["mean"].unstack("objective"))


def print_better_ones(means: pd.DataFrame) -> None:
    """
    :param means: The means over the seeds, with a row for each label and a column for each encoder
    """
    for name in means.columns.drop("w-mse"):
        better = means[means[name] > means["w-mse"]]
        print(f"\n{name} is better than w-mse in {len(better)} of {len(means)}:")
        for (game, _, _, metric, label), row in better.iterrows():
            print(f"  {game}, {label}, {metric}: {row[name]:.2f} and {row['w-mse']:.2f}")


def main() -> None:
    """Compute the missing cells, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--games", nargs="+", choices=list(LABELS), default=list(LABELS))
    parser.add_argument("--objectives", nargs="+", choices=list(OBJECTIVES), default=list(OBJECTIVES))
    parser.add_argument(
        "--seeds", nargs="+", type=int, default=[1, 2, 3], help="The seeds of weights, windows and test episodes"
    )
    parser.add_argument("--updates", type=int, default=200, help="The updates of 512 frames; one of CPC has 1024, as two")
    parser.add_argument("--frames", type=int, default=30_000, help="The number of frames of random play")
    parser.add_argument("--cache", type=Path, help="The folder for random play and encoders, for other runs")
    parser.add_argument("--output", type=Path, required=True, help="The CSV to write or to continue")
    arguments = parser.parse_args()
    th.set_num_threads(1)
    # seeds in the outer loop, so that an interrupted run has results of all games
    for seed in arguments.seeds:
        for game in arguments.games:
            run_game(game, seed, arguments)
    print_tables(read_results(arguments.output))


if __name__ == "__main__":
    main()
