"""Bounds for the steps in a labyrinth: walks without learning, from a random walk to the shortest walk with a known map."""

from collections import deque
from collections.abc import Callable

import numpy as np
from tqdm import tqdm

from sb3_lwm.envs.labyrinth import PartiallyObservableLabyrinthEnv

# The change of row and column by each action: left, down, right, up; rows count from the top
SHIFTS = ((0, -1), (1, 0), (0, 1), (-1, 0))
# The time limit of the registered ids
TIME_LIMIT = 1000
Place = tuple[int, int]
Walker = Callable[[PartiallyObservableLabyrinthEnv, np.random.Generator], int]


def _neighbour(place: Place, action: int) -> Place:
    return place[0] + SHIFTS[action][0], place[1] + SHIFTS[action][1]


def walk_randomly(env: PartiallyObservableLabyrinthEnv, random: np.random.Generator) -> int:
    """
    :param env: The labyrinth, without a time limit
    :param random: The generator of the actions
    :return: The number of steps of an episode of uniformly random actions, at most 1000
    """
    env.reset()
    for step, action in enumerate(random.integers(4, size=TIME_LIMIT), start=1):
        if env.step(action)[2]:
            return step
    return TIME_LIMIT


def search(env: PartiallyObservableLabyrinthEnv, random: np.random.Generator) -> int:
    """
    Depth-first search with a perfect memory, which only needs the observations.

    :param env: The labyrinth, without a time limit
    :param random: The generator that chooses among the passages not taken yet
    :return: The number of steps of an episode
    """
    observation, _ = env.reset()
    here: Place = (0, 0)
    seen, way_back, steps, terminated = {here}, list[int](), 0, False
    while not terminated:
        branches = [int(action) for action in np.flatnonzero(observation) if _neighbour(here, action) not in seen]
        if branches:
            action = int(random.choice(branches))
            way_back.append((action + 2) % 4)
        else:
            action = way_back.pop()
        observation, _, terminated, _, _ = env.step(action)
        here = _neighbour(here, action)
        seen.add(here)
        steps += 1
    return steps


def distances_from(passages: np.ndarray, start: Place) -> dict[Place, int]:
    """
    :param passages: The map, (size, size, 4) bool
    :param start: The first cell
    :return: The number of steps from there to each cell
    """
    distances, queue = {start: 0}, deque([start])
    while queue:
        here = queue.popleft()
        for action in np.flatnonzero(passages[here]):
            if (place := _neighbour(here, action)) not in distances:
                distances[place] = distances[here] + 1
                queue.append(place)
    return distances


def walk_with_the_map(env: PartiallyObservableLabyrinthEnv, random: np.random.Generator) -> int:
    """
    The shortest walk through all cells. In a tree it takes every passage twice, except for those on the path to the last cell.

    :param env: The labyrinth, without a time limit
    :param random: A generator, not used
    :return: The number of steps of an episode
    """
    env.reset()
    return 2 * (env.size * env.size - 1) - max(distances_from(env.passages, env.position).values())


BOUNDS: dict[str, Walker] = {"random": walk_randomly, "search": search, "map-known": walk_with_the_map}
N_LABYRINTHS = 2000


def bound(agent: str, size: int, seed: int = 0) -> np.ndarray:
    """
    :param agent: A key of ``BOUNDS``
    :param size: The size of the labyrinths
    :param seed: The seed of the labyrinths and the choices
    :return: The number of steps of each episode, (labyrinths,) int
    """
    walk = BOUNDS[agent]
    env = PartiallyObservableLabyrinthEnv(size)
    env.reset(seed=seed)
    random = np.random.default_rng(seed)
    episodes = tqdm(range(N_LABYRINTHS), desc=f"{agent}, size {size}", unit="episode", mininterval=1.0, disable=None)
    return np.array([walk(env, random) for _ in episodes])
