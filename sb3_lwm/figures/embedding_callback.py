"""Figures of the world model's latents and intrinsic rewards in TensorBoard during a training."""

from typing import Any

import numpy as np
import numpy.typing as npt
import torch as th
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import Figure, TensorBoardOutputFormat

from sb3_lwm.common.type_aliases import SequenceSamples
from sb3_lwm.figures import embeddings
from sb3_lwm.figures.requirements import require
from sb3_lwm.lwm_dqn import LWMDQN

# More environments would not make the histogram smoother, and 128 games of the paper's size fill a small machine's memory
MOST_ENVS = 8


class EmbeddingCallback(BaseCallback):
    """
    Logs the latents and the intrinsic rewards of the newest observations at regular intervals:
    ``embedding/trajectory``, a picture (t-SNE of the latents of the first environment, see
    :func:`~sb3_lwm.figures.embeddings.draw_embeddings`), and ``embedding/intrinsic_reward``, a histogram over the
    first 8 environments.

    Pass it to ``learn``, or name it in a yml of the RL Zoo. It needs TensorBoard (``tensorboard_log``) and the extra
    ``figures``; it draws no random numbers, so that the training is the same with and without it::

        callback:
          - sb3_lwm.EmbeddingCallback:
              every_steps: 100000

    :param every_steps: The number of steps between two pictures, all environments together
    :param n_rows: The number of the newest observations of each environment to use
    :param verbose: Not used
    :raises ValueError: If a number is too small; when the training starts, if there is no world model or no TensorBoard
    :raises ImportError: If a package of the extra ``figures`` is missing
    """

    model: LWMDQN

    def __init__(self, every_steps: int = 100_000, n_rows: int = 300, verbose: int = 0) -> None:
        super().__init__(verbose)
        if every_steps < 1:
            raise ValueError(f"every_steps must be at least 1, got {every_steps}.")
        embeddings.check_trajectory(n_rows)
        require("sklearn.manifold")
        require("matplotlib.figure")
        self.every_steps = every_steps
        self.n_rows = n_rows
        self._next_steps = every_steps

    def _on_training_start(self) -> None:
        if self.model.policy.world_model is None:
            raise ValueError("EmbeddingCallback: the agent has no world model: train with use_world_model=True.")
        if not self._tensorboards():
            raise ValueError(
                "EmbeddingCallback needs a TensorBoard log: give the agent a tensorboard_log (in the Zoo: --tensorboard-log "
                "FOLDER), or remove the callback."
            )
        self._plan()

    def _tensorboards(self) -> list[TensorBoardOutputFormat]:
        return [output for output in self.logger.output_formats if isinstance(output, TensorBoardOutputFormat)]

    def _plan(self) -> None:
        self._next_steps = (self.model.num_timesteps // self.every_steps + 1) * self.every_steps

    def _on_step(self) -> bool:
        return True

    def _on_rollout_end(self) -> None:
        buffer = self.model.replay_buffer
        assert buffer is not None
        # before the end of the warm-up the world model is untrained
        is_due = self.model.num_timesteps >= max(self._next_steps, self.model.learning_starts + 1)
        if is_due and buffer.size() >= self.n_rows:
            n_envs = min(self.model.n_envs, MOST_ENVS)
            self._log(buffer.newest_windows(self.n_rows, n_envs, self.model.get_vec_normalize_env()))
            self._plan()

    @th.no_grad()
    def _log(self, samples: SequenceSamples) -> None:
        """Log the (T, B) rows of samples."""
        policy = self.model.policy
        world_model = policy.world_model
        assert world_model is not None
        was_training = policy.training
        policy.set_training_mode(False)
        errors, _ = world_model.sequence_errors(samples)
        rewards = world_model.intrinsic_rewards(errors, samples.episode_starts)[~samples.episode_starts]
        latents = world_model.encode(samples.observations)[:, 0].cpu().numpy()
        policy.set_training_mode(was_training)
        title = f"{self.model.num_timesteps} steps"
        layouts = {"latents": embeddings.lay_out(latents)}
        figure = embeddings.draw_embeddings(layouts, last_images(samples.observations), title)
        logged = {"embedding/trajectory": Figure(figure, close=False), "embedding/intrinsic_reward": rewards.cpu()}
        # not by the logger's dump, which would also write the values of other modules so far, and to every format
        for output in self._tensorboards():
            output.write(logged, dict.fromkeys(logged, ()), self.model.num_timesteps)


def last_images(observations: Any) -> npt.NDArray[np.uint8] | None:
    """
    :param observations: The observations, a (T, B, *shape) tensor or a dictionary of such tensors
    :return: The newest channel of the first environment's images, (T, height, width) uint8; None without images
    """
    parts = observations.values() if isinstance(observations, dict) else [observations]
    images = [part for part in parts if part.dim() == 5 and part.dtype == th.uint8]
    return images[0][:, 0, -1].cpu().numpy() if images else None
