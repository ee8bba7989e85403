"""The labyrinth: its rules, its distribution, and its interface to Gymnasium and SB3."""

from collections import Counter

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env as check_gymnasium_env
from hypothesis import given, settings
from hypothesis import strategies as st
from labyrinth_bounds import distances_from
from labyrinth_helpers import DOWN, HAND_MADE_ACTIONS, LEFT, RIGHT, SHIFTS, UP, make_hand_made_env
from stable_baselines3.common.env_checker import check_env as check_sb3_env
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import DummyVecEnv, SubprocVecEnv

from sb3_lwm.envs import PartiallyObservableLabyrinthEnv, register_envs

IDS = {"POL-v0": 3, "POL-3x3-v0": 3, "POL-4x4-v0": 4, "POL-5x5-v0": 5, "POL-6x6-v0": 6}


def enumerate_depth_first_trees(size):
    """
    Enumerate the trees that randomised depth-first search from (0, 0) can make, with their exact probabilities.

    :param size: The number of cells along a side
    :return: The probability of each tree, a frozenset of frozensets of two cells
    """
    probabilities = Counter()

    def carve(path, reached, edges, probability):
        if len(reached) == size * size:
            probabilities[frozenset(edges)] += probability
            return
        row, column = path[-1]
        around = [(row + rows, column + columns) for rows, columns in SHIFTS]
        choices = [cell for cell in around if min(cell) >= 0 and max(cell) < size and cell not in reached]
        if not choices:
            carve(path[:-1], reached, edges, probability)
        for cell in choices:
            edge = frozenset({path[-1], cell})
            carve([*path, cell], reached | {cell}, [*edges, edge], probability / len(choices))

    carve([(0, 0)], {(0, 0)}, [], 1.0)
    return probabilities


def list_edges(passages):
    """
    :param passages: The passages of a labyrinth, (size, size, 4) bool
    :return: The same labyrinth as a frozenset of frozensets of two cells
    """
    return frozenset(
        frozenset({(int(row), int(column)), (int(row) + SHIFTS[action][0], int(column) + SHIFTS[action][1])})
        for row, column, action in np.argwhere(passages)
    )


def chi_square_excess(counts, expected):
    """
    :param counts: The observed counts, of shape (n,)
    :param expected: The expected counts, of shape (n,)
    :return: The chi-square statistic in standard deviations above its mean
    """
    freedom = len(counts) - 1
    return (((counts - expected) ** 2 / expected).sum() - freedom) / np.sqrt(2 * freedom)


# The labyrinth


@pytest.mark.parametrize("size", [2, 3, 4, 5, 6, 9])
def test_labyrinth_is_a_spanning_tree(size):
    env = PartiallyObservableLabyrinthEnv(size)
    for seed in range(30):
        env.reset(seed=seed)
        passages = env.passages
        assert passages.shape == (size, size, 4) and passages.dtype == bool
        assert not passages[:, 0, LEFT].any() and not passages[:, -1, RIGHT].any()
        assert not passages[0, :, UP].any() and not passages[-1, :, DOWN].any()
        np.testing.assert_array_equal(passages[:, :-1, RIGHT], passages[:, 1:, LEFT])
        np.testing.assert_array_equal(passages[:-1, :, DOWN], passages[1:, :, UP])
        assert passages.sum() == 2 * (size * size - 1)
        assert len(distances_from(passages, (0, 0))) == size * size


def test_first_passage_is_down_or_right_with_equal_probability():
    # The grid without a corner is connected, so the search never comes back to the corner for a second passage.
    env = PartiallyObservableLabyrinthEnv(5)
    env.reset(seed=1)
    first = []
    for _ in range(2000):
        env.reset()
        actions = np.flatnonzero(env.passages[0, 0])
        assert len(actions) == 1
        first.append(actions[0])
    assert set(first) == {DOWN, RIGHT}
    assert abs(np.mean(np.equal(first, RIGHT)) - 0.5) < 4 * 0.5 / np.sqrt(2000)


def test_labyrinths_have_the_exact_distribution_of_the_search():
    probabilities = enumerate_depth_first_trees(3)
    assert sum(probabilities.values()) == pytest.approx(1.0)
    env = PartiallyObservableLabyrinthEnv(3)
    env.reset(seed=2)
    counts = Counter()
    for _ in range(4000):
        env.reset()
        counts[list_edges(env.passages)] += 1
    assert counts.keys() == probabilities.keys()
    trees = list(probabilities)
    observed, expected = (np.array([table[tree] for tree in trees]) for table in (counts, probabilities))
    assert abs(chi_square_excess(observed, 4000 * expected)) < 4


def test_start_is_uniform():
    env = PartiallyObservableLabyrinthEnv(3)
    env.reset(seed=3)
    counts = np.zeros((3, 3))
    for _ in range(3000):
        env.reset()
        counts[env.position] += 1
    assert abs(chi_square_excess(counts.ravel(), np.full(9, 3000 / 9))) < 4


def test_seed_decides_labyrinth_and_start():
    first, second = PartiallyObservableLabyrinthEnv(6), PartiallyObservableLabyrinthEnv(6)
    labyrinths = set()
    for seed in range(20):
        first.reset(seed=seed)
        second.reset(seed=seed)
        for _ in range(3):
            assert list_edges(first.passages) == list_edges(second.passages)
            assert first.position == second.position
            labyrinths.add(list_edges(first.passages))
            first.reset()
            second.reset()
    # Neither another seed nor another reset without a seed repeats a labyrinth.
    assert len(labyrinths) == 60


# Moves, observations, the end


@pytest.mark.parametrize("row", range(3))
@pytest.mark.parametrize("column", range(3))
@pytest.mark.parametrize("action", range(4))
def test_moves_in_a_hand_made_labyrinth(row, column, action):
    env = make_hand_made_env((row, column))
    open_actions = HAND_MADE_ACTIONS[row][column]
    end = (row + SHIFTS[action][0], column + SHIFTS[action][1]) if action in open_actions else (row, column)
    observation, reward, terminated, truncated, info = env.step(action)
    assert env.position == end
    assert observation.tolist() == [int(choice in HAND_MADE_ACTIONS[end[0]][end[1]]) for choice in range(4)]
    assert reward == -1.0 and terminated is False and truncated is False
    assert info == {"visited_cells": 1 + (end != (row, column))}
    visited = {(row, column), end}
    assert {(int(r), int(c)) for r, c in np.argwhere(env.visited)} == visited


def test_observation_is_the_passages_of_the_current_cell():
    env = PartiallyObservableLabyrinthEnv(5)
    random = np.random.default_rng(0)
    for seed in range(10):
        observation, info = env.reset(seed=seed)
        assert info == {"visited_cells": 1} and env.visited.sum() == 1 and env.visited[env.position]
        for _ in range(100):
            assert observation.shape == (4,) and observation.dtype == np.int8
            np.testing.assert_array_equal(observation, env.passages[env.position])
            observation = env.step(random.integers(4))[0]


def test_returned_arrays_are_copies():
    env = make_hand_made_env((0, 1))
    before = env.passages
    observation = env.step(LEFT)[0]
    observation[:] = 7
    env.passages[:] = True
    env.visited[:] = True
    assert env.step(LEFT)[0].tolist() == [0, 1, 1, 0]
    np.testing.assert_array_equal(env.passages, before)
    assert env.visited.sum() == 2


def test_terminates_when_the_last_cell_is_visited_and_not_before():
    env = make_hand_made_env((2, 0))
    walk = [UP, UP, RIGHT, RIGHT, DOWN, LEFT, RIGHT, DOWN, LEFT]
    steps = [env.step(action) for action in walk]
    assert [step[2] for step in steps] == [False] * 8 + [True]
    assert [step[4]["visited_cells"] for step in steps] == [2, 3, 4, 5, 6, 7, 7, 8, 9]
    env.reset()
    assert env.visited.sum() == 1 and env.step(LEFT)[2] is False


def test_return_is_minus_the_number_of_steps():
    env = gym.make("POL-3x3-v0")
    env.action_space.seed(0)
    env.reset(seed=0)
    episode_return, steps, terminated, truncated = 0.0, 0, False, False
    while not (terminated or truncated):
        _, reward, terminated, truncated, _ = env.step(env.action_space.sample())
        episode_return += reward
        steps += 1
        assert terminated == env.unwrapped.visited.all()
    assert terminated and episode_return == -steps


def test_registered_ids_truncate_after_1000_steps_and_the_bare_class_never():
    env = gym.make("POL-4x4-v0")
    observation, _ = env.reset(seed=0)
    wall = int(np.flatnonzero(observation == 0)[0])
    steps = [env.step(wall)[2:4] for _ in range(1000)]
    assert steps == [(False, False)] * 999 + [(False, True)]
    assert env.unwrapped.step(wall)[2:4] == (False, False)


@pytest.mark.parametrize("action", [2, np.int64(2), np.uint8(2), np.array(2)])
def test_integer_actions_of_every_kind(action):
    # `predict` of an SB3 model gives an array of shape () for one observation.
    env = make_hand_made_env((0, 0))
    env.step(action)
    assert env.position == (0, 1)


# Errors


@pytest.mark.parametrize("size", [1, 0, -3, 3.0, "3", None, True])
def test_bad_size_is_refused(size):
    with pytest.raises(ValueError, match=rf"size must be an integer of at least 2, got {size!r}"):
        PartiallyObservableLabyrinthEnv(size)


def test_bad_render_mode_is_refused():
    with pytest.raises(ValueError, match=r"one of \['ansi', 'human', 'rgb_array'\], got 'hologram'"):
        PartiallyObservableLabyrinthEnv(3, render_mode="hologram")


@pytest.mark.parametrize("action", [-1, 4, 1.0, np.float32(1), "up", None, np.array([0, 1])])
def test_bad_action_is_refused(action):
    env = make_hand_made_env((0, 1))
    with pytest.raises(ValueError) as error:
        env.step(action)
    assert repr(action) in str(error.value) and "0 (left), 1 (down), 2 (right) or 3 (up)" in str(error.value)
    assert env.position == (0, 1)


def test_use_before_reset_is_refused():
    env = PartiallyObservableLabyrinthEnv(3, render_mode="ansi")
    uses = [lambda: env.step(0), env.render, lambda: env.passages, lambda: env.visited, lambda: env.position]
    for use in uses:
        with pytest.raises(gym.error.ResetNeeded, match="reset"):
            use()


# Gymnasium and Stable-Baselines3


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("env_id", IDS)
def test_environment_checkers_accept_the_labyrinth(env_id):
    check_gymnasium_env(gym.make(env_id).unwrapped)
    for render_mode in ("ansi", "human", "rgb_array"):
        check_sb3_env(gym.make(env_id, render_mode=render_mode), warn=True, skip_render_check=False)


@pytest.mark.filterwarnings("error")
def test_registered_ids():
    register_envs()
    register_envs()
    for env_id, size in IDS.items():
        env = gym.make(env_id)
        assert type(env.unwrapped) is PartiallyObservableLabyrinthEnv
        assert env.unwrapped.size == size and env.spec.max_episode_steps == 1000
        # Not the class itself: a string makes the spec light to pickle, and asks nothing of the process that unpickles it.
        assert env.spec.entry_point == "sb3_lwm.envs.labyrinth:PartiallyObservableLabyrinthEnv"
        assert env.observation_space == gym.spaces.MultiBinary(4) and env.action_space == gym.spaces.Discrete(4)
    assert gym.make("POL-v0", size=7).unwrapped.size == 7


# One worker: starting it, which imports torch, is half of the time of this file.
@pytest.mark.parametrize(("vec_env_cls", "n_envs"), [(DummyVecEnv, 3), (SubprocVecEnv, 1)])
def test_vectorised(vec_env_cls, n_envs):
    # With the module in the id, the workers of SubprocVecEnv, which start bare, register the environments as well.
    env = make_vec_env("sb3_lwm.envs:POL-3x3-v0", n_envs=n_envs, seed=0, vec_env_cls=vec_env_cls)
    try:
        observations = env.reset()
        assert observations.shape == (n_envs, 4) and observations.dtype == np.int8
        random = np.random.default_rng(0)
        lengths = []
        while len(lengths) < 4:
            observations, rewards, dones, infos = env.step(random.integers(4, size=n_envs))
            np.testing.assert_array_equal(rewards, [-1.0] * n_envs)
            for index in np.flatnonzero(dones):
                assert infos[index]["visited_cells"] == 9 and not infos[index]["TimeLimit.truncated"]
                assert infos[index]["episode"]["r"] == -infos[index]["episode"]["l"]
                lengths.append(infos[index]["episode"]["l"])
                np.testing.assert_array_equal(
                    observations[index], env.get_attr("passages")[index][env.get_attr("position")[index]]
                )
        assert len(set(lengths)) > 1
    finally:
        env.close()


# Random walks


@settings(max_examples=40, deadline=None)
@given(size=st.integers(2, 7), seed=st.integers(0, 2**31), actions=st.lists(st.integers(0, 3), max_size=300))
def test_labyrinth_after_random_actions(size: int, seed: int, actions: list[int]) -> None:
    env, other = PartiallyObservableLabyrinthEnv(size), PartiallyObservableLabyrinthEnv(size)
    observation, info = env.reset(seed=seed)
    passages = env.passages
    # a spanning tree, whose passages can be walked both ways
    assert passages.sum() == 2 * (size * size - 1)
    assert (passages[:, 1:, LEFT] == passages[:, :-1, RIGHT]).all() and (passages[1:, :, UP] == passages[:-1, :, DOWN]).all()
    assert not (passages[:, 0, LEFT].any() or passages[:, -1, RIGHT].any())
    assert not (passages[0, :, UP].any() or passages[-1, :, DOWN].any())
    for step, action in enumerate(actions):
        before, was_open = np.array(env.position), passages[(*env.position, action)]
        if step == len(actions) // 2:
            other.set_training_state(env.get_training_state())
        observation, reward, terminated, truncated, info = env.step(action)
        if step >= len(actions) // 2:
            # the restored one walks the same way
            assert str(other.step(action)) == str((observation, reward, terminated, truncated, info))
        moved = np.array(env.position) - before
        assert np.abs(moved).sum() == int(was_open) and reward == -1.0 and not truncated
        assert observation.tolist() == passages[env.position].tolist() and env.visited[env.position]
        assert info["visited_cells"] == env.visited.sum() and terminated == env.visited.all()
        assert env.observation_space.contains(observation) and (env.passages == passages).all()
