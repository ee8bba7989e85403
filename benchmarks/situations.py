"""What may be met at the end of an episode of Montezuma's Revenge: something new, something usual, or only noise."""

import numpy as np
from random_play import select

from sb3_lwm.common.type_aliases import Play
from sb3_lwm.envs.atari.play import as_play, make_atari

GAME = "MontezumaRevenge"
# byte of the console's memory (AtariARI, see probes.py), number of the level's rooms, and the one in which a game starts
ROOM_BYTE, N_ROOMS, FIRST_ROOM = 3, 24, 1
# rows of an episode before it, and how many visits
FIRST_ROW, LAST_ROW, N_VISITS = 20, 60, 100
TV_SIZE, TV_PLACE = 10, 2


def paint_tv(data: Play, episodes: np.ndarray, seed: int) -> Play:
    """
    :param data: random play
    :param episodes: numbers of the episodes in which the television is on
    :param seed: of its pixels
    :return: a copy with 10x10 independent uniform pixels in each frame of these episodes
    """
    shown = np.flatnonzero(np.isin(data.episodes, episodes))
    frames = data.frames.copy()
    place = slice(TV_PLACE, TV_PLACE + TV_SIZE)
    pixels = np.random.default_rng(seed).integers(256, size=(len(shown), TV_SIZE, TV_SIZE), dtype=np.uint8)
    frames[shown, place, place] = pixels
    return data._replace(frames=frames)


def cut(data: Play, last_frames: np.ndarray | None, seed: int) -> Play:
    """
    :param data: random play
    :param last_frames: (n, 84, 84) uint8, to be met at the end; None: the episode's own
    :param seed: of the cuts
    :return: the first rows of each episode that is long enough
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
    :param rooms: numbers of rooms
    :param seed: of the game and of the actions
    :return: short random play in the first room, whose last frame shows one of ``rooms``, into which the player was put
    """
    env = make_atari(f"ALE/{GAME}-v5")
    env.action_space.seed(seed)
    env.reset(seed=seed)
    game_start = env.unwrapped.ale.cloneState()
    rng = np.random.default_rng(seed)
    rows: list[tuple[np.ndarray, int, np.ndarray, int]] = []
    episode = 0
    while episode < N_VISITS:
        # as long as a life is left, reset() would go on in the room that was visited
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
    :param data: all random play, which knows the rooms that are not new
    :param test: held-out episodes
    :param other: play of another game
    :param seed: of the cuts and of the visits
    :return: episodes that end in each situation
    """
    rooms = np.arange(N_ROOMS)
    visited = np.isin(rooms, data.rams[:, ROOM_BYTE])
    return {
        "frame of another game": cut(test, other.frames, seed),
        "its control, the next frame": cut(test, None, seed),
        "unvisited room": visit_rooms(rooms[~visited], seed),
        "its control, the first room": visit_rooms(np.array([FIRST_ROOM]), seed),
    }
