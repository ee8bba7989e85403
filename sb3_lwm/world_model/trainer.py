"""Trains a world model on sampled sequences, and adds its intrinsic reward to them."""

import warnings
from collections.abc import Callable
from typing import Protocol

import torch as th
from stable_baselines3.common.utils import update_learning_rate
from tqdm import tqdm

from sb3_lwm.common.finite_guard import FiniteGuard
from sb3_lwm.common.optimizers import optimizer_step
from sb3_lwm.common.type_aliases import SequenceSamples, map_observations
from sb3_lwm.world_model.model import LatentWorldModel


class WindowSampler(Protocol):
    """A function that draws windows of consecutive rows of one environment."""

    def __call__(self, batch_size: int, sequence_length: int, within_episode: bool = False) -> SequenceSamples:
        """
        :param batch_size: The number of windows, ``B``
        :param sequence_length: The number of rows of a window, ``T``
        :param within_episode: Whether each window must lie inside one episode
        :return: The (T, B) rows
        """


class WorldModelTrainer:
    """
    Trains a :class:`LatentWorldModel`, by a pretraining and then by one update per batch, and adds the intrinsic reward to
    batches (LWM, section 4). The caller draws the batches and decides when to train.

    :param world_model: The world model to train
    :param optimizer: The optimizer of the predictor
    :param encoder_optimizer: The optimizer of the image encoders and their objectives; None if no encoder is trained
    :param learning_rate: The learning rate of both optimizers
    :param finite_guard: The check for losses and gradients that are not finite
    """

    def __init__(
        self,
        world_model: LatentWorldModel,
        optimizer: th.optim.Optimizer,
        encoder_optimizer: th.optim.Optimizer | None,
        learning_rate: float,
        finite_guard: FiniteGuard,
    ) -> None:
        self.world_model = world_model
        self.optimizer = optimizer
        self.encoder_optimizer = encoder_optimizer
        self.learning_rate = learning_rate
        self.finite_guard = finite_guard
        self._has_warned_of_episodes = False
        # the factor with which intrinsic rewards are added to the rewards of the environment
        self.reward_factor = 1.0
        # the scalars of the last updates, see take_scalars
        self.scalars: dict[str, th.Tensor] = {}

    @property
    def encoder_window(self) -> int:
        """:return: The number of rows of the longest window of an encoder update, 0 if no encoder is trained"""
        objectives = self.world_model.encoder_objectives().values()
        return max((objective.sequence_length for objective in objectives), default=0)

    def warn_of_short_episodes(self) -> None:
        """Warn, once, that the episodes are too short for the windows of the encoder of images."""
        if self._has_warned_of_episodes:
            return
        self._has_warned_of_episodes = True
        warnings.warn(
            f"The encoder of images learns from windows of {self.encoder_window} consecutive observations inside one episode, "
            "and there are none: its updates are skipped until there are. For shorter windows pass "
            "world_model_kwargs={'encoder_objective_kwargs': {'sequence_length': 2}}.",
            stacklevel=2,
        )

    def take_scalars(self) -> dict[str, th.Tensor]:
        """:return: The scalars of the updates since the last call, tensors of shape () by their names in the log"""
        scalars, self.scalars = self.scalars, {}
        return scalars

    def pretrain(
        self,
        sample_windows: WindowSampler,
        n_updates: int,
        n_encoder_updates: int,
        batch_size: int,
        sequence_length: int,
        before_update: Callable[[], None],
        verbose: int = 0,
        shows_progress: bool = True,
    ) -> None:
        """
        Train the encoder of images, then the predictor, up to a total number of updates. The running mean and standard
        deviation of the prediction error start from the error of the pretrained model.

        :param sample_windows: The function that draws the windows
        :param n_updates: The total number of predictor updates
        :param n_encoder_updates: The total number of encoder updates; not used if no encoder is trained
        :param batch_size: The number of windows of a predictor update
        :param sequence_length: The number of rows of such a window
        :param before_update: The function to call before each update
        :param verbose: The verbosity level: 0 shows a progress bar on a terminal only, 1 always shows it, and prints a line
            of results
        :param shows_progress: Whether progress bars are allowed
        :raises NonFiniteError: If a loss or its gradient is not finite
        """
        encoder_updates = n_encoder_updates - int(self.world_model.n_encoder_updates) if self.encoder_window else 0
        updates = n_updates - int(self.world_model.n_updates)

        def update_encoder() -> None:
            before_update()
            self.update_encoder(sample_windows)

        def update() -> None:
            before_update()
            self.update(sample_windows(batch_size, sequence_length))

        # without verbose only a terminal shows the bar (None); with it also a log file does, to account for the time
        hidden = True if not shows_progress else None if verbose == 0 else False
        self._repeat(update_encoder, encoder_updates, "Pretraining the encoder", "encoder_loss", verbose, hidden)
        self._repeat(update, updates, "Pretraining the world model", "loss", verbose, hidden)
        if updates > 0:
            self._restart_averages(sample_windows(batch_size, sequence_length))

    def _repeat(
        self, update: Callable[[], None], n_updates: int, description: str, loss: str, verbose: int, hidden: bool | None
    ) -> None:
        """Call ``update`` with a progress bar that shows one of the scalars."""
        if n_updates <= 0:
            return
        losses = []
        with tqdm(desc=description, total=n_updates, unit="update", disable=hidden, mininterval=1.0) as bar:
            for _ in range(n_updates):
                update()
                losses.append(self.scalars[loss].item())
                bar.update()
                bar.set_postfix({"loss": f"{losses[-1]:.4g}"}, refresh=False)
        if verbose > 0:
            part = -(-n_updates // 10)
            first, last = (sum(values) / part for values in (losses[:part], losses[-part:]))
            print(f"{description}: loss {first:.4g} in the first {part} updates, {last:.4g} in the last {part} of {n_updates}")

    def _restart_averages(self, samples: SequenceSamples) -> None:
        """Drop the errors of the beginning of the pretraining, which are many times larger than those of its end."""
        with th.no_grad():
            errors, _ = self.world_model.sequence_errors(samples)
        self.world_model.normalizer.restart()
        self.world_model.normalizer.update(errors[1:], self.world_model.is_predicted(samples.episode_starts))

    def update_encoder(self, sample_windows: WindowSampler) -> None:
        """
        Make one update of the encoders of images, on windows that lie within one episode each (LWM, section 4.1).

        :param sample_windows: The function that draws the windows
        :raises NonFiniteError: If the loss or its gradient is not finite
        """
        assert self.encoder_optimizer is not None
        self._set_training_mode()
        total, scalars = th.zeros((), device=self.world_model.n_updates.device), {}
        encoders = self.world_model.encoder.parts()
        for key, objective in self.world_model.encoder_objectives().items():
            samples = sample_windows(objective.batch_size, objective.sequence_length, within_episode=True)
            frames = samples.observations[key] if isinstance(samples.observations, dict) else samples.observations
            loss, logged = objective.loss(encoders[key], frames, samples.actions)
            total = total + loss
            scalars.update(logged)
        self._step(self.encoder_optimizer, total, "encoder")
        self.world_model.n_encoder_updates += 1
        self.scalars |= {"encoder_loss": total.detach(), **{f"encoder_{name}": value for name, value in scalars.items()}}

    def update(self, samples: SequenceSamples) -> SequenceSamples:
        """
        Make one predictor update on a batch, and add the intrinsic rewards to it.

        The prediction errors are those of the model before the update, so that the batch is predicted only once.

        :param samples: The (T, B) rows of the replay buffer
        :return: The samples with intrinsic rewards, see :meth:`relabel`
        :raises NonFiniteError: If the loss or its gradient is not finite
        """
        model = self.world_model
        self._set_training_mode()
        model.encoder.update_statistics(map_observations(lambda part: part.flatten(0, 1), samples.observations))
        errors, losses = model.sequence_errors(samples)
        predicted = model.is_predicted(samples.episode_starts)
        self.update_predictor(losses, predicted, samples.importance_weights)
        model.normalizer.update(errors[1:], predicted)
        relabelled = self._add_intrinsic_rewards(samples, errors)
        # the first row is left out, since its stored prediction is as old as the sequence
        self.note_intrinsic_rewards(relabelled.intrinsic_rewards[1:])
        return relabelled

    def update_predictor(
        self, losses: th.Tensor, counted: th.Tensor | None = None, importance_weights: th.Tensor | None = None
    ) -> None:
        """
        Make one predictor update.

        :param losses: The training losses, (T, B) float with gradient, see :meth:`LatentWorldModel.transition_errors`
        :param counted: Whether each loss counts, (T, B) bool; by default all count
        :param importance_weights: The weights of the sequences, (B,) float; by default 1
        :raises NonFiniteError: If the loss or its gradient is not finite
        """
        counted = th.ones_like(losses, dtype=th.bool) if counted is None else counted
        weights = counted if importance_weights is None else counted * importance_weights
        loss = (losses * weights).sum() / counted.sum().clamp(min=1)
        self._step(self.optimizer, loss, "world model")
        self.world_model.n_updates += 1
        self.scalars["loss"] = loss.detach()

    def note_intrinsic_rewards(self, rewards: th.Tensor) -> None:
        """
        Add the statistics of a batch to :attr:`scalars`.

        :param rewards: The intrinsic rewards, float of any shape
        """
        self.scalars |= {
            "n_updates": self.world_model.n_updates.long(),
            "error_mean": self.world_model.normalizer.mean,
            "error_std": self.world_model.normalizer.std,
            "intrinsic_reward_mean": rewards.mean(),
            "intrinsic_reward_std": rewards.std(correction=0),
            "intrinsic_reward_max": rewards.max(),
        }

    def relabel(self, samples: SequenceSamples) -> SequenceSamples:
        """
        Add the intrinsic rewards of the present model to a batch, without an update.

        :param samples: The (T, B) rows of the replay buffer
        :return: The samples with the ``intrinsic_rewards`` of each observation, and with ``rewards`` to which the intrinsic
            reward of the observation after each action, times :attr:`reward_factor`, was added
        """
        with th.no_grad():
            errors, _ = self.world_model.sequence_errors(samples)
            return self._add_intrinsic_rewards(samples, errors)

    def _add_intrinsic_rewards(self, samples: SequenceSamples, errors: th.Tensor) -> SequenceSamples:
        """Turn (T, B) prediction errors into rewards."""
        intrinsic_rewards = self.world_model.intrinsic_rewards(errors, samples.episode_starts)
        rewards = samples.rewards.clone()
        rewards[:-1] += self.reward_factor * intrinsic_rewards[1:]
        return samples._replace(rewards=rewards, intrinsic_rewards=intrinsic_rewards)

    def _set_training_mode(self) -> None:
        if not self.world_model.training:
            self.world_model.train()

    def _step(self, optimizer: th.optim.Optimizer, loss: th.Tensor, term: str) -> None:
        """Make one optimizer step, unless the loss or its gradient is not finite."""
        # a loaded optimizer still has its old learning rate
        update_learning_rate(optimizer, self.learning_rate)
        remedy = f"lower world_model_learning_rate (now {self.learning_rate}) or scale the observations"
        self.finite_guard.backward(optimizer, loss, term, remedy)
        optimizer_step(optimizer)
