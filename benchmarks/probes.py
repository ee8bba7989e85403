"""
Does an embedding know where the player is? Linear probes from each encoder to the positions in the console's memory::

    OMP_NUM_THREADS=1 python benchmarks/probes.py --updates 250 --output benchmarks/results/probes.csv

Every encoder is trained on random play; ridge regression on its standardised embeddings is fitted on the same episodes, and
R2 is that of episodes which neither has seen. Cells that the CSV already holds are not computed again.
"""

import argparse
import time
from pathlib import Path

import pandas as pd
import torch as th
from random_play import Play, append_results, as_images, cached_encoder, cached_play, is_done, read_results, split
from sklearn.linear_model import Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from tqdm import tqdm

from sb3_lwm.world_model.encoders import ImageEncoder
from sb3_lwm.world_model.objectives import OBJECTIVES

# bytes of the console's memory: Anand et al. 2019, "Unsupervised State Representation Learning in Atari" (AtariARI)
GAMES = {
    "MontezumaRevenge": {"player_x": 42, "player_y": 43},
    "Frostbite": {"player_x": 102, "player_y": 100},
}
PLAY_SEED = 0
# neighbours in time hardly differ
PROBE_EVERY = 2


def probe(encoder: ImageEncoder, train: Play, test: Play, byte_numbers: dict[str, int]) -> list[dict[str, object]]:
    """
    :param encoder: of images
    :param train: random play to fit the probes on
    :param test: random play to judge them by
    :param byte_numbers: of the memory, by name
    :return: a row with the R2 for each byte
    """
    with th.inference_mode():
        features = [encoder(as_images(part.frames[::PROBE_EVERY])).numpy() for part in (train, test)]
    rows: list[dict[str, object]] = []
    for name, number in byte_numbers.items():
        labels = [part.rams[::PROBE_EVERY, number].astype(float) for part in (train, test)]
        model = make_pipeline(StandardScaler(), Ridge(alpha=1.0)).fit(features[0], labels[0])
        rows.append({"label": name, "r2": model.score(features[1], labels[1])})
    return rows


def run_game(game: str, arguments: argparse.Namespace) -> None:
    """Fill the cells of a game, seed by seed, so that an interrupted run holds every objective."""
    data = None
    for seed in arguments.seeds:
        for objective in tqdm(arguments.objectives, desc=f"{game}, seed {seed}", unit="encoder"):
            cell = {"game": game, "objective": objective, "seed": seed}
            cell |= {"updates": arguments.updates, "frames": arguments.frames}
            if is_done(read_results(arguments.output), cell):
                continue
            data = data or cached_play(arguments.cache, game, arguments.frames, PLAY_SEED)
            train, test = split(data, seed)
            start = time.perf_counter()
            name = f"{game}_{arguments.frames}"
            encoder, logs = cached_encoder(arguments.cache, name, train, objective, seed, arguments.updates)
            extra = {"seconds": time.perf_counter() - start, **logs}
            rows = probe(encoder, train, test, GAMES[game])
            append_results(arguments.output, [cell | row | extra for row in rows])
            print(f"\n{game}, {objective}, seed {seed}: {rows}", flush=True)


def print_table(results: pd.DataFrame) -> None:
    """Print R2 of every seed, and the mean."""
    keys = ["game", "updates", "frames", "label", "objective"]
    table = results.pivot_table("r2", keys, "seed", sort=False).add_prefix("seed ")
    table = table.assign(mean=table.mean(axis=1)).sort_index(level=keys[:-1], sort_remaining=False)
    print(table.to_string(float_format="%.3f"))


def main() -> None:
    """Compute what is missing, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--games", nargs="+", choices=list(GAMES), default=list(GAMES))
    parser.add_argument("--objectives", nargs="+", choices=list(OBJECTIVES), default=list(OBJECTIVES))
    parser.add_argument("--seeds", nargs="+", type=int, default=[1, 2, 3], help="of weights, windows and held-out episodes")
    parser.add_argument("--updates", type=int, default=250, help="of 512 frames; one of CPC embeds 1024 and counts twice")
    parser.add_argument("--frames", type=int, default=50_000, help="of random play")
    parser.add_argument("--cache", type=Path, help="folder to keep random play and encoders in, for other runs")
    parser.add_argument("--output", type=Path, required=True, help="CSV to write, and to go on with")
    arguments = parser.parse_args()
    th.set_num_threads(1)
    for game in arguments.games:
        run_game(game, arguments)
    print_table(read_results(arguments.output))


if __name__ == "__main__":
    main()
