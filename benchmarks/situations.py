"""Situations at the end of an episode of Montezuma's Revenge: a new observation, a usual one, or noise."""

import numpy as np
from random_play import select

from sb3_lwm.common.type_aliases import Play
from sb3_lwm.envs.atari.play import as_play, make_atari

GAME = "MontezumaRevenge"
# The byte of the room in the console's memory (AtariARI, see probes.py), the number of rooms, and the room of the start
ROOM_BYTE, N_ROOMS, FIRST_ROOM = 3, 24, 1
# The range of the number of rows before a situation, and the number of visits of rooms
FIRST_ROW, LAST_ROW, N_VISITS = 20, 60, 100
TV_SIZE, TV_PLACE = 10, 2


def paint_tv(data: Play, episodes: np.ndarray, seed: int) -> Play:
    """
    :param data: The random play
    :param episodes: The numbers of the episodes with a television
    :param seed: The seed of its pixels
    :return: A copy with 10x10 independent uniform pixels in each frame of these episodes
    """
    shown = np.flatnonzero(np.isin(data.episodes, episodes))
    frames = data.frames.copy()
    place = slice(TV_PLACE, TV_PLACE + TV_SIZE)
    pixels = np.random.default_rng(seed).integers(256, size=(len(shown), TV_SIZE, TV_SIZE), dtype=np.uint8)
    frames[shown, place, place] = pixels
    return data._replace(frames=frames)


def cut(data: Play, last_frames: np.ndarray | None, seed: int) -> Play:
    """
    :param data: The random play
    :param last_frames: The frames that replace last ones, (n, 84, 84) uint8; None to keep the episode's own
    :param seed: The seed of the cuts
    :return: The first rows of each episode that is long enough
    """
    rng = np.random.default_rng(seed)
    parts = []
    for episode in np.unique(data.episodes):
        part = select(data, np.array([episode]))
        length = rng.integers(FIRST_ROW, LAST_ROW)
        if length > len(part.frames):
            continue
        part = Play(*(column[:length].copy() for column in part[:4]), data.n_actions)
        if last_frames is not None:
            part.frames[-1] = rng.choice(last_frames)
        parts.append(part)
    return Play(*map(np.concatenate, zip(*(part[:4] for part in parts), strict=True)), data.n_actions)


def visit_rooms(rooms: np.ndarray, seed: int) -> Play:
    """
    :param rooms: The numbers of rooms
    :param seed: The seed of the game and of the actions
    :return: Short random play in the first room, whose last frame shows one of ``rooms``, to which the player was moved
    """
    env = make_atari(f"ALE/{GAME}-v5")
    env.action_space.seed(seed)
    env.reset(seed=seed)
    game_start = env.unwrapped.ale.cloneState()
    rng = np.random.default_rng(seed)
    rows: list[tuple[np.ndarray, int, np.ndarray, int]] = []
    episode = 0
    while episode < N_VISITS:
        # restored, since reset() would continue in the visited room as long as a life is left
        env.unwrapped.ale.restoreState(game_start)
        observation, _ = env.reset()
        ale, part, length, done = env.unwrapped.ale, [], rng.integers(FIRST_ROW, LAST_ROW), False
        while len(part) < length and not done:
            action = int(env.action_space.sample())
            part.append((observation[..., 0], action, ale.getRAM(), episode))
            if len(part) == length - 1:
                ale.setRAM(ROOM_BYTE, int(rng.choice(rooms)))
            observation, _, terminated, truncated, _ = env.step(action)
            done = terminated or truncated
        if not done:
            rows += part
            episode += 1
    return as_play(rows, env)


def situations(data: Play, test: Play, other: Play, seed: int) -> dict[str, Play]:
    """
    :param data: All random play, whose rooms are not new
    :param test: The held-out episodes
    :param other: The play of another game
    :param seed: The seed of the cuts and of the visits
    :return: The episodes that end in each situation
    """
    rooms = np.arange(N_ROOMS)
    visited = np.isin(rooms, data.rams[:, ROOM_BYTE])
    return {
        "frame of another game": cut(test, other.frames, seed),
        "its control, the next frame": cut(test, None, seed),
        "unvisited room": visit_rooms(rooms[~visited], seed),
        "its control, the first room": visit_rooms(np.array([FIRST_ROOM]), seed),
    }
