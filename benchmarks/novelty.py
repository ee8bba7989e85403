"""
The intrinsic reward of new and of random observations, in Montezuma's Revenge::

    OMP_NUM_THREADS=1 python benchmarks/novelty.py --updates 250 --output benchmarks/results/novelty.csv \
        --figure benchmarks/results/novelty.png

Encoder and predictor are trained on random play, without and with a noisy television: a patch of random pixels in every other
episode. Then each situation below is placed at the end of held-out episodes, and so is its control without any novelty. All
numbers are standard deviations of the intrinsic reward of held-out random play above its mean; rewards are not clipped, so
that they do not depend on the normaliser's running statistics. Cells that are already in the CSV are not computed again.
"""

import argparse
from pathlib import Path

import numpy as np
import pandas as pd
import torch as th
from gymnasium import spaces
from random_play import append_results, cached_play, is_done, read_results, select, split
from situations import GAME, paint_tv, situations
from stable_baselines3.common.utils import set_random_seed
from tqdm import tqdm

from sb3_lwm.common.type_aliases import Play
from sb3_lwm.figures import draw_novelty, save_figure
from sb3_lwm.figures.encoder_training import IMAGES, LATENT_SIZE, LEARNING_RATE, as_images, cached_encoder
from sb3_lwm.world_model import LatentWorldModel, prediction_errors
from sb3_lwm.world_model.encoders import ImageEncoder

OTHER_GAME = "Frostbite"
OBJECTIVES = ("w-mse", "random")
PLAY_SEED = 0
# The windows of the predictor, as in the paper's pretraining
BATCH_SIZE, SEQUENCE_LENGTH = 16, 100


def episode_starts(data: Play) -> th.Tensor:
    """Return whether each row is the first one of an episode, (N,) bool."""
    return th.as_tensor(np.diff(data.episodes, prepend=-1) != 0)


def train_predictor(encoder: ImageEncoder, data: Play, seed: int, n_updates: int) -> LatentWorldModel:
    """
    Train the recurrent predictor in the same way as the agent, with equal weights of all windows.

    :param encoder: The encoder whose embeddings are predicted
    :param data: The random play to learn from
    :param seed: The seed of the weights and of the windows
    :param n_updates: The number of updates, of 16 windows of 100 rows
    :return: The world model with its normaliser
    """
    set_random_seed(seed)
    rng = np.random.default_rng(seed)
    model = LatentWorldModel(
        IMAGES,
        spaces.Discrete(data.n_actions),
        intrinsic_reward_scale=1.0,
        intrinsic_reward_clip=None,
        intrinsic_reward_momentum=0.99,
        # the encoder is already trained
        encoder_objective="random",
        image_latent_size=LATENT_SIZE,
    )
    model.encoder.encoders["observation"] = encoder
    optimizer = th.optim.Adam(model.predictor.parameters(), LEARNING_RATE)
    latents, starts, actions = embed(model, data), episode_starts(data), th.as_tensor(data.actions)
    for _ in tqdm(range(n_updates), desc=f"Predictor, seed {seed}", unit="update", mininterval=1.0):
        rows = rng.integers(len(actions) - SEQUENCE_LENGTH, size=BATCH_SIZE) + np.arange(SEQUENCE_LENGTH)[:, None]
        errors = predict(model, latents[rows], actions[rows], starts[rows])
        predicted = ~starts[rows][1:]
        loss = errors[predicted].mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        model.normalizer.update(errors[predicted].detach())
    return model


def embed(model: LatentWorldModel, data: Play) -> th.Tensor:
    """Return the latents of all frames, (N, Z) float."""
    encoder = model.encoder.encoders["observation"]
    assert isinstance(encoder, ImageEncoder)
    with th.no_grad():
        return encoder(as_images(data.frames))


def predict(model: LatentWorldModel, latents: th.Tensor, actions: th.Tensor, starts: th.Tensor) -> th.Tensor:
    """
    :param latents: The latents, (T, B, Z) float
    :param actions: The actions, (T, B) int64
    :param starts: Whether an episode begins with each row, (T, B) bool
    :return: The prediction errors of all rows after the first, (T - 1, B) float
    """
    hidden = th.zeros(latents.shape[1], model.hidden_size)
    predictions, _ = model.expect(latents[:-1], actions[:-1], hidden, starts[:-1])
    return prediction_errors(latents[1:], predictions)


def intrinsic_rewards(model: LatentWorldModel, data: Play) -> np.ndarray:
    """Return the intrinsic reward of each row's frame, (N,) float; NaN at the start of an episode."""
    starts, actions = episode_starts(data), th.as_tensor(data.actions)
    with th.no_grad():
        errors = predict(model, embed(model, data)[:, None], actions[:, None], starts[:, None])
        rewards = model.intrinsic_rewards(errors[:, 0], starts[1:]).masked_fill(starts[1:], float("nan"))
    return np.concatenate(([np.nan], rewards.numpy()))


def last_rewards(model: LatentWorldModel, data: Play) -> np.ndarray:
    """Return the intrinsic reward of the last frame of each episode, (number of episodes,) float."""
    return intrinsic_rewards(model, data)[np.diff(data.episodes, append=-1) != 0]


def measure(model: LatentWorldModel, test: Play, new: dict[str, Play], seed: int) -> list[dict[str, object]]:
    """Return a row for each situation, and for the television in all held-out episodes."""
    usual = intrinsic_rewards(model, test)
    mean, std = np.nanmean(usual), np.nanstd(usual)
    rewards = {name: last_rewards(model, data) for name, data in new.items()}
    rewards["noisy television"] = intrinsic_rewards(model, paint_tv(test, test.episodes, seed + 1000))
    rows: list[dict[str, object]] = []
    for name, values in rewards.items():
        values = (values[~np.isnan(values)] - mean) / std
        rows.append({"situation": name, "deviations": values.mean(), "median": np.median(values), "transitions": len(values)})
    return rows


def draw(model: LatentWorldModel, test: Play, path: Path) -> None:
    """Draw the intrinsic reward along the longest held-out episode, and the frames at its highest peaks."""
    numbers, lengths = np.unique(test.episodes, return_counts=True)
    data, usual = select(test, numbers[[lengths.argmax()]]), intrinsic_rewards(model, test)
    rewards = (intrinsic_rewards(model, data) - np.nanmean(usual)) / np.nanstd(usual)
    title = f"{GAME}, a held-out episode of random play"
    save_figure(draw_novelty(rewards, data.frames, title, "intrinsic reward, standardised"), path)


def run_seed(data: Play, other: Play, seed: int, arguments: argparse.Namespace) -> None:
    """Compute the missing cells of a seed."""
    train, test = split(data, seed)
    new = None
    for tv in (False, True):
        # in every other episode
        watched = paint_tv(train, np.arange(0, train.episodes.max() + 1, 2), seed) if tv else train
        for objective in OBJECTIVES:
            cell: dict[str, object] = {"objective": objective, "seed": seed, "trained_with_television": tv}
            cell |= {
                "updates": arguments.updates,
                "predictor_updates": arguments.predictor_updates,
                "frames": arguments.frames,
            }
            if is_done(read_results(arguments.output), cell):
                continue
            name, updates = f"{GAME}_{arguments.frames}" + "_television" * tv, arguments.updates
            encoder, _ = cached_encoder(arguments.cache, name, lambda played=watched: played, objective, seed, updates)
            model = train_predictor(encoder, watched, seed, arguments.predictor_updates)
            new = new or situations(data, test, other, seed)
            append_results(arguments.output, [cell | row for row in measure(model, test, new, seed)])
            if arguments.figure and (objective, seed, tv) == ("w-mse", arguments.seeds[0], False):
                draw(model, test, arguments.figure)


def print_table(results: pd.DataFrame) -> None:
    """Print the deviations of every seed, and the mean."""
    keys = ["updates", "predictor_updates", "frames", "situation", "trained_with_television", "objective"]
    table = results.pivot_table("deviations", keys, "seed", sort=False).add_prefix("seed ")
    print(table.assign(mean=table.mean(axis=1)).sort_index(sort_remaining=False).to_string(float_format="%.2f"))


def main() -> None:
    """Compute the missing cells, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--seeds", nargs="+", type=int, default=[1, 2, 3], help="The seeds of weights, windows, held-out episodes, visits"
    )
    parser.add_argument("--updates", type=int, default=250, help="The number of updates of the encoder")
    parser.add_argument("--predictor-updates", type=int, default=500)
    parser.add_argument("--frames", type=int, default=50_000, help="The number of frames of random play")
    parser.add_argument("--cache", type=Path, help="The folder for random play and encoders, for other runs")
    parser.add_argument("--figure", type=Path, help="The PNG to draw with the cell of W-MSE and the first seed")
    parser.add_argument("--output", type=Path, required=True, help="The CSV to write or to continue")
    arguments = parser.parse_args()
    th.set_num_threads(1)
    data = cached_play(arguments.cache, GAME, arguments.frames, PLAY_SEED)
    other = cached_play(arguments.cache, OTHER_GAME, 2_000, PLAY_SEED)
    for seed in arguments.seeds:
        run_seed(data, other, seed, arguments)
    print_table(read_results(arguments.output))


if __name__ == "__main__":
    main()
