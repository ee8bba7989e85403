"""Figures and videos of an agent's intrinsic reward. Drawing needs the extra ``figures``, and no display."""

from sb3_lwm.figures.episode import WatchedEpisode, watch_episode
from sb3_lwm.figures.novelty import draw_novelty, find_spikes, save_figure
from sb3_lwm.figures.video import write_video

__all__ = ["WatchedEpisode", "draw_novelty", "find_spikes", "save_figure", "watch_episode", "write_video"]
