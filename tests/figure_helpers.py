"""A watched episode with a spike of its intrinsic reward."""

import numpy as np

from sb3_lwm.figures import WatchedEpisode

N_FRAMES = 14
FRAMES = [np.full((31, 20, 3), 10 * step, dtype=np.uint8) for step in range(N_FRAMES)]
REWARDS = np.where(np.arange(N_FRAMES) == 9, 5.0, 0.1 * np.arange(N_FRAMES) % 0.3)
REWARDS[0] = np.nan
EPISODE = WatchedEpisode(FRAMES, REWARDS, -13.0)
