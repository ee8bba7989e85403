"""AtariVecEnv plays as SB3's AtariWrapper, records whole games, and repeats a run from its seed."""

from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from atari_helpers import make, play, random_actions
from stable_baselines3.common.atari_wrappers import AtariWrapper
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.monitor import Monitor, load_results
from stable_baselines3.common.vec_env import VecMonitor

from sb3_lwm import LWMDQN, AtariVecEnv

NOOP, FIRE, THIRD = 0, 1, 2


# --- The same as SB3's wrappers ---


class SameActions:
    """Plays the actions on AtariVecEnv that AtariWrapper plays unseen when an episode begins."""

    def __init__(self, game: str) -> None:
        self.env = make(game, noop_max=0, use_fire_reset=False)
        self.fires = "FIRE" in self.env.env_method("get_action_meanings")[0]

    def begin(self, observation: np.ndarray, new_game: bool) -> np.ndarray:
        hidden = ([] if new_game else [NOOP]) + ([FIRE, THIRD] if self.fires else [])
        for action in hidden:
            observation, _, dones, _ = self.env.step(np.array([action]))
            assert not dones[0]
        return observation


@pytest.mark.parametrize("rom", ["MontezumaRevenge", "Breakout", "Freeway", "Frostbite", "SpaceInvaders"])
def test_plays_as_the_wrappers_of_sb3(rom: str) -> None:
    ours = SameActions(f"{rom}NoFrameskip-v4")
    theirs = AtariWrapper(gym.make(f"{rom}NoFrameskip-v4"), noop_max=0, clip_reward=False)
    assert ours.env.action_space == theirs.action_space
    expected, _ = theirs.reset()
    observation = ours.begin(ours.env.reset(), new_game=True)
    differences, ends, scores = [], 0, 0.0
    for action in random_actions(ours.env, 500):
        expected, reward, terminated, truncated, info = theirs.step(action[0])
        observation, rewards, dones, infos = ours.env.step(action)
        assert (rewards[0], dones[0], infos[0]["lives"]) == (reward, terminated or truncated, info["lives"])
        if dones[0]:
            ends += 1
            new_game = "episode" in infos[0]
            assert new_game == theirs.get_wrapper_attr("was_real_done")
            expected, _ = theirs.reset()
            observation = ours.begin(observation, new_game)
        differences.append(np.abs(observation[0, 0].astype(float) - expected[:, :, 0]).mean())
        scores += reward
    assert np.mean(differences) < 0.05 and max(differences) < 1.0
    assert ends >= (0 if rom == "Freeway" else 2)
    assert scores > 0 or rom in ("MontezumaRevenge", "Freeway")
    ours.env.close()


def test_time_limit_equals_that_of_sb3() -> None:
    theirs = AtariWrapper(gym.make("FreewayNoFrameskip-v4", max_num_frames_per_episode=120), noop_max=0)
    ours = make("FreewayNoFrameskip-v4", noop_max=0, max_episode_steps=30)
    theirs.reset()
    ours.reset()
    for step in range(1, 31):
        _, _, terminated, truncated, _ = theirs.step(1)
        before = ours.step(np.array([1])) if step < 30 else None
        assert (terminated, truncated) == (False, step == 30)
        assert before is None or not before[2][0]
    _, _, dones, infos = ours.step(np.array([1]))
    assert dones[0] and infos[0]["TimeLimit.truncated"]
    assert (infos[0]["episode"]["l"], infos[0]["lives"]) == (30, 0)
    assert infos[0]["terminal_observation"].shape == (1, 84, 84)
    ours.close()


# --- Lives and games ---


def test_spaces_and_types() -> None:
    env = make("FrostbiteNoFrameskip-v4", n_envs=3)
    observations = env.reset()
    assert env.observation_space == gym.spaces.Box(0, 255, (1, 84, 84), np.uint8)
    assert observations.shape == (3, 1, 84, 84) and observations.dtype == np.uint8
    assert [info["lives"] for info in env.reset_infos] == [4, 4, 4]
    observations, rewards, dones, infos = env.step(np.zeros(3, dtype=np.int32))
    assert observations.shape == (3, 1, 84, 84) and observations.dtype == np.uint8
    assert (rewards.dtype, rewards.shape, dones.dtype, dones.shape) == (np.float32, (3,), bool, (3,))
    assert infos == [{"lives": 4}] * 3
    env.close()


@pytest.mark.parametrize("terminal_on_life_loss", [True, False])
def test_records_are_those_of_whole_games(terminal_on_life_loss: bool, tmp_path: Path) -> None:
    env = make(n_envs=2, terminal_on_life_loss=terminal_on_life_loss, monitor_dir=tmp_path)
    env.reset()
    scores, lengths, episodes, records = np.zeros(2), np.zeros(2), np.zeros(2), []
    for action in random_actions(env, 400):
        observations, rewards, dones, infos = env.step(action)
        scores, lengths, episodes = scores + rewards, lengths + 1, episodes + dones
        for game, info in enumerate(infos):
            assert ("terminal_observation" in info) == ("TimeLimit.truncated" in info) == dones[game]
            if dones[game]:
                goes_on = np.array_equal(info["terminal_observation"], observations[game])
                assert goes_on == ("episode" not in info) == (info["lives"] > 0)
                assert not info["TimeLimit.truncated"]
            if "episode" in info:
                record = info["episode"]
                assert (record["r"], record["l"]) == (scores[game], lengths[game])
                assert episodes[game] == (5 if terminal_on_life_loss else 1)
                records.append(record)
                scores[game] = lengths[game] = episodes[game] = 0
    env.close()
    assert len(records) >= 2 and sum(record["r"] for record in records) > 0
    results = load_results(str(tmp_path))
    assert sorted(zip(results.r, results.l, strict=True)) == sorted((record["r"], record["l"]) for record in records)


@pytest.mark.parametrize("use_fire_reset", [True, False])
def test_fire_begins_every_life(use_fire_reset: bool) -> None:
    env = make(use_fire_reset=use_fire_reset, max_episode_steps=400)
    env.reset()
    for _ in range(400):
        _, _, _, infos = env.step(np.array([NOOP]))
        if "episode" in infos[0]:
            break
    # without FIRE no ball is ever served
    assert infos[0]["TimeLimit.truncated"] != use_fire_reset
    env.close()


def test_clipped_rewards_do_not_change_the_score() -> None:
    env = make("SpaceInvadersNoFrameskip-v4", max_episode_steps=150)
    clipped = make("SpaceInvadersNoFrameskip-v4", max_episode_steps=150, clip_reward=True)
    env.reset(), clipped.reset()
    for action in random_actions(env, 150):
        (_, rewards, _, infos), (_, ones, _, clipped_infos) = env.step(action), clipped.step(action)
        np.testing.assert_array_equal(np.sign(rewards), ones)
    assert infos[0]["episode"]["r"] == clipped_infos[0]["episode"]["r"] > 10
    env.close(), clipped.close()


class RandomPolicy:
    """Chooses at random, like a model in ``evaluate_policy``."""

    def __init__(self, env: AtariVecEnv) -> None:
        self.env, self.generator = env, np.random.default_rng(0)

    def predict(self, observation: np.ndarray, **kwargs: Any) -> tuple[np.ndarray, None]:
        return self.generator.integers(self.env.action_space.n, size=self.env.num_envs), None


def test_evaluate_policy_reports_whole_games() -> None:
    env = make(n_envs=2)
    lives: list[bool] = []
    rewards, lengths = evaluate_policy(
        RandomPolicy(env),
        env,
        n_eval_episodes=2,
        return_episode_rewards=True,
        callback=lambda scope, _: lives.append(bool(scope["done"])),
    )
    assert len(rewards) == 2 and sum(lives) == 10
    assert sum(lengths) == len(lives)
    env.close()


def test_monitor_is_built_in() -> None:
    env = make()
    assert env.env_is_wrapped(Monitor) == [True]
    assert env.env_is_wrapped(AtariWrapper) == [False]
    with pytest.warns(UserWarning, match="already wrapped with a `Monitor`"):
        VecMonitor(env)
    env.close()


# --- Actions under way ---


def test_same_actions_may_be_sent_twice() -> None:
    once, twice = make(), make()
    once.reset(), twice.reset()
    for action in random_actions(once, 20):
        expected = once.step(action)
        mine = action.copy()
        twice.step_async(mine)
        twice.step_async(action.astype(np.int32))
        mine[:] = 0  # the caller's array stays the caller's
        twice.step_async(action)
        np.testing.assert_array_equal(twice.step_wait()[0], expected[0])
    once.close(), twice.close()


def test_other_actions_are_refused_while_some_are_under_way() -> None:
    env = make(n_envs=2)
    with pytest.raises(RuntimeError, match=r"call reset\(\) before step"):
        env.step(np.zeros(2, dtype=int))
    env.reset()
    with pytest.raises(RuntimeError, match=r"No actions are under way: call step_async\(\) first"):
        env.step_wait()
    env.step_async(np.array([0, 1]))
    with pytest.raises(RuntimeError, match=r"Other actions are under way: call step_wait\(\)"):
        env.step_async(np.array([0, 2]))
    env.step_wait()
    env.step(np.array([0, 2]))
    env.close()


def test_reset_and_close_finish_what_is_under_way() -> None:
    env, fresh = make(ram_envs=1), make()
    env.reset()
    env.step_async(np.array([NOOP]))
    env.seed(0)
    assert play(env, 10) == play(fresh, 10)
    env.step_async(np.array([NOOP]))
    env.close()
    env.close()
    for call in (env.reset, env.step_wait, lambda: env.step(np.array([NOOP])), lambda: env.env_method("get_ram")):
        with pytest.raises(RuntimeError, match="closed: make a new one"):
            call()
    fresh.close()


@pytest.mark.parametrize(
    ("actions", "message"),
    [
        ([0], r"shape \(2,\), got int64, shape \(1,\)"),
        ([[0], [0]], r"shape \(2,\), got int64, shape \(2, 1\)"),
        ([0.0, 1.0], "must be integers.*got float64"),
        ([0, 4], "Action 4 of game 1 is out of range: it must be from 0 to 3, NOOP, FIRE, RIGHT, LEFT"),
        ([-1, 0], "Action -1 of game 0 is out of range"),
    ],
)
def test_wrong_actions_are_refused(actions: Any, message: str) -> None:
    env = make(n_envs=2)
    env.reset()
    with pytest.raises(ValueError, match=message):
        env.step(np.array(actions))
    env.step(np.zeros(2, dtype=int))
    env.close()


def test_attributes_and_methods() -> None:
    env = make(n_envs=2)
    assert env.get_attr("render_mode") == [None, None]
    assert env.get_attr("spec", indices=0)[0].id == "BreakoutNoFrameskip-v4"
    assert env.env_method("get_action_meanings", indices=[1]) == [["NOOP", "FIRE", "RIGHT", "LEFT"]]
    assert not env.has_attr("ale")
    with pytest.raises(AttributeError, match="no attribute 'ale'"):
        env.get_attr("ale")
    with pytest.raises(AttributeError, match="'game' of an AtariVecEnv cannot be set: make a new one"):
        env.set_attr("game", "pong")
    with pytest.raises(AttributeError, match="no method 'clone_state', only get_action_meanings, get_ram, render"):
        env.env_method("clone_state")
    env.reset()
    with pytest.raises(ValueError, match="Game 0 has no shadow: make the AtariVecEnv with ram_envs=2 or a render_mode"):
        env.env_method("get_ram")
    env.close()


# --- Seeds ---


@pytest.mark.parametrize("game", ["BreakoutNoFrameskip-v4", "ALE/Breakout-v5"])
def test_same_seed_same_games(game: str) -> None:
    first = make(game, n_envs=2, num_threads=1, max_episode_steps=40)
    expected = play(first)
    other = make(game, n_envs=2, seed=1, num_threads=2, max_episode_steps=40)
    assert play(other) != expected
    other.seed(0)
    assert play(other) == expected
    # without a new seed the second run continues with the present generators
    assert play(first) == play(other) != expected
    first.close(), other.close()


def test_seeds_of_the_games_are_consecutive_and_may_be_large() -> None:
    env, other = make(n_envs=2, seed=2**32 - 2), make(n_envs=1, seed=2**31 - 1)
    np.testing.assert_array_equal(env.reset()[1], other.reset()[0])
    env.close(), other.close()


def test_numpy_seeds_games_without_a_seed() -> None:
    runs = []
    for _ in range(2):
        np.random.seed(3)
        env = make(seed=None)
        runs.append(play(env, 5))
        env.close()
    assert runs[0] == runs[1]


def test_agent_learns_on_atari_vec_env() -> None:
    env = make("MontezumaRevengeNoFrameskip-v4", n_envs=2)
    settings = {"buffer_size": 200, "learning_starts": 40, "batch_size": 2, "burn_in": 2, "unroll": 4}
    pretraining = {
        "encoder_pretraining_updates": 1,
        "pretraining_updates": 1,
        "pretraining_batch_size": 2,
        "pretraining_sequence_length": 4,
    }
    policy = {"features_extractor_kwargs": {"features_dim": 16}, "gru_hidden_size": 8}
    model = LWMDQN("CnnPolicy", env, seed=0, policy_kwargs=policy, **settings, **pretraining)
    model.learn(64)
    assert model.get_env() is env  # needs no wrapper to transpose images
    assert model.num_timesteps == 64
    env.close()
