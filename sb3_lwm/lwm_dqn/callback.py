"""The schedule by which the world model of an LWMDQN is trained, beside its update on every batch."""

from typing import Any

from stable_baselines3.common.callbacks import BaseCallback

# LWM, appendix: 1000 updates after a warm-up of 10 000 steps
STEPS_PER_UPDATE, MOST_UPDATES = 10, 1000
# Two rows, of which the first predicts the second
SHORTEST_WINDOW = 2


class LatentWorldModelCallback(BaseCallback):
    """
    Schedules the training of the world model of an :class:`~sb3_lwm.LWMDQN`, which adds this callback to every ``learn``.

    At the end of the warm-up the encoder of images, then the predictor are pretrained on random play. Afterwards the encoder
    is updated once after each rollout (LWM, section 4.2); the predictor is updated on each batch that the agent learns from.

    :param pretraining_updates: The number of predictor updates after the warm-up; by default one for each ten steps of the
        warm-up, at least 1 and at most the paper's 1000
    :param pretraining_batch_size: The number of windows in each of these updates; with the default number of updates it is
        reduced until a batch has no more rows than the replay
    :param pretraining_sequence_length: The number of rows of each window; fewer if the longest window of the replay is shorter
    :param encoder_pretraining_updates: The number of updates of the encoder of images before those of the predictor; by
        default the default number of predictor updates
    :param verbose: The verbosity level: 0 shows a progress bar of the pretraining on a terminal only, 1 shows it always, and
        prints a line of results
    """

    # an LWMDQN, which imports this module
    model: Any

    def __init__(
        self,
        pretraining_updates: int | None,
        pretraining_batch_size: int,
        pretraining_sequence_length: int,
        encoder_pretraining_updates: int | None,
        verbose: int = 0,
    ) -> None:
        super().__init__(verbose)
        self.pretraining_updates = pretraining_updates
        self.pretraining_batch_size = pretraining_batch_size
        self.pretraining_sequence_length = pretraining_sequence_length
        self.encoder_pretraining_updates = encoder_pretraining_updates
        # False if the training has its own progress bar
        self.shows_progress = True
        self._is_pretrained = False

    def _on_step(self) -> bool:
        return True

    def _on_rollout_end(self) -> None:
        model = self.model
        # SB3 calls this just before train(), which starts under the same condition
        if model.num_timesteps <= model.learning_starts:
            return
        trainer = model.world_model_trainer
        if not self._is_pretrained:
            model.mark_rollout_as_collected(self.locals["num_collected_steps"] * self.training_env.num_envs)
            self._pretrain()
        elif self._has_encoder_windows():
            trainer.update_encoder(model.sample_windows)
        model.log_world_model()

    def _pretrain(self) -> None:
        """Pretrain the world model, unless updates remain and the replay does not hold the warm-up."""
        trainer = self.model.world_model_trainer
        updates, encoder_updates = (
            self.default_updates if given is None else given
            for given in (self.pretraining_updates, self.encoder_pretraining_updates)
        )
        is_left = updates > trainer.world_model.n_updates or (
            trainer.encoder_window > 0 and encoder_updates > trainer.world_model.n_encoder_updates
        )
        if is_left and not self._has_warm_up():
            # the model was loaded in the middle of the pretraining, without its replay
            return
        buffer = self.model.replay_buffer
        length = min(self.pretraining_sequence_length, buffer.longest_window)
        batch_size = self.pretraining_batch_size
        if self.pretraining_updates is None:
            batch_size = buffer.fitted_batch_size(batch_size, length)
        trainer.pretrain(
            self.model.sample_windows,
            updates,
            encoder_updates if self._has_encoder_windows() else 0,
            batch_size,
            length,
            # before each update, so that a resumed pretraining has at least one update left
            before_update=self.model.training_states.safe_point,
            verbose=self.verbose,
            shows_progress=self.shows_progress,
        )
        self._is_pretrained = True

    @property
    def default_updates(self) -> int:
        """:return: The default number of pretraining updates after this warm-up"""
        return min(max(self.model.learning_starts // STEPS_PER_UPDATE, 1), MOST_UPDATES)

    def _has_warm_up(self) -> bool:
        """Return whether the replay holds the random play to pretrain on."""
        buffer = self.model.replay_buffer
        shortest = max(SHORTEST_WINDOW, self.model.world_model_trainer.encoder_window)
        return buffer.written.sum() >= self.model.learning_starts and buffer.can_sample(shortest)

    def _has_encoder_windows(self) -> bool:
        """Return whether the encoder of images can be updated; warn if only the episodes are too short for it."""
        trainer, buffer = self.model.world_model_trainer, self.model.replay_buffer
        window = trainer.encoder_window
        if window == 0 or not buffer.can_sample(window):
            return False
        if not buffer.can_sample(window, within_episode=True):
            trainer.warn_of_short_episodes()
            return False
        return True

    def get_training_state(self) -> dict[str, Any]:
        """:return: The data of the callback that is not part of the world model"""
        return {"_is_pretrained": self._is_pretrained}

    def set_training_state(self, state: dict[str, Any]) -> None:
        """:param state: The result of :meth:`get_training_state`"""
        self._is_pretrained = state["_is_pretrained"]
