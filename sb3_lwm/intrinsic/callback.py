"""The callback that adds the intrinsic reward of the latent world model to any algorithm of Stable-Baselines3."""

import weakref
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch as th
from gymnasium import spaces
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm
from stable_baselines3.common.torch_layers import FlattenExtractor

from sb3_lwm.common.files import whole_file
from sb3_lwm.common.finite_guard import FiniteGuard
from sb3_lwm.common.gru_kernel import say_that_kernel_is_missing
from sb3_lwm.common.schedules import ScheduleArgument, make_schedule
from sb3_lwm.intrinsic.critic import IntrinsicCritic
from sb3_lwm.intrinsic.off_policy import ReplayReward
from sb3_lwm.intrinsic.on_policy import RolloutReward
from sb3_lwm.lwm_dqn import LWMDQN
from sb3_lwm.world_model import LatentWorldModel, WorldModelTrainer

# The chunk of truncated backpropagation through time, unless the rollout is shorter
CHUNK_LENGTH = 32
# The parts of the files of :meth:`IntrinsicRewardCallback.save`
STATE = ("world_model", "optimizer", "encoder_optimizer", "critic", "critic_optimizer")
# For each model, the start time of the training with an intrinsic reward, and the callback that adds it
_in_use: "weakref.WeakKeyDictionary[BaseAlgorithm, tuple[float, IntrinsicRewardCallback]]" = weakref.WeakKeyDictionary()


class IntrinsicRewardCallback(BaseCallback):
    """
    Adds the intrinsic reward of a latent world model (LWM, section 4) to an algorithm of Stable-Baselines3 or sb3-contrib::

        PPO("MlpPolicy", env).learn(1_000_000, callback=IntrinsicRewardCallback(intrinsic_reward_scale="lin_0.04"))

    or in a yml of the RL Zoo::

        callback:
          - sb3_lwm.IntrinsicRewardCallback:
              intrinsic_reward_scale: lin_0.04

    On-policy algorithms (A2C, PPO, TRPO, MaskablePPO, RecurrentPPO): at the end of each rollout the world model predicts the
    next latent of every transition, with the hidden state carried along from the last rollout. The intrinsic reward is the
    positive part of the normalised prediction error. It has a value function of its own, whose returns continue through the
    ends of episodes (Burda et al. 2019, section 2.3), since otherwise an agent may learn to end its episodes, or never to end
    them. The advantages of the intrinsic reward, times the scale, are added to those of the rollout; its rewards and returns
    remain those of the environment. Then the world model is trained on the rollout.

    Off-policy algorithms (DQN, QRDQN, SAC, TD3, TQC): each sampled batch gets the intrinsic reward of the present world
    model, whose hidden state is warmed up over the transitions before; the world model is trained on the same transitions.
    The replay buffer stores the rewards of the environment only.

    ``rollout/ep_rew_mean`` remains the return of the environment; the scalars of the world model are logged under
    ``world_model/``. :class:`~sb3_lwm.LWMDQN` has its own world model and does not accept this callback.

    :param intrinsic_reward_scale: The factor of the intrinsic reward: a number, ``"lin_0.04"`` for one that falls
        linearly to 0, or a function of the progress remaining (from 1 to 0)
    :param intrinsic_reward_fraction: The fraction of the training over which a linear scale falls to 0
    :param intrinsic_reward_clip: The bound of the normalised prediction error, in standard deviations; None for no clipping
    :param intrinsic_reward_momentum: The momentum of the running mean and standard deviation of the prediction error
    :param intrinsic_reward_normalizer: ``"moving"`` (LWM) divides by the present standard deviation of the prediction error,
        ``"long-run"`` by the average over the whole training, so that the reward shrinks with the errors
    :param gamma: The discount factor of the intrinsic reward (on-policy)
    :param learning_rate: The learning rate of the world model, and of the value function of the intrinsic reward
    :param n_passes: The number of passes of the world model over each rollout (on-policy)
    :param chunk_length: The number of steps of truncated backpropagation through time (on-policy); None for 32, or the
        length of the rollout if it is shorter
    :param warm_up: The number of transitions before each sampled one that warm the hidden state up (off-policy)
    :param update_interval: The number of sampled batches between two updates of the world model (off-policy); larger numbers
        save time
    :param encoder_objective: The objective of the encoder of images: ``"w-mse"``, ``"inverse-dynamics"``, ``"cpc"``, or
        ``"random"``, which leaves the encoder untrained
    :param encoder_updates: The number of updates of the encoder of images after each rollout
    :param encoder_pretraining_updates: The number of updates of the encoder of images after the first rollout
    :param world_model_kwargs: Further keyword arguments of the :class:`~sb3_lwm.world_model.LatentWorldModel`, such as
        ``predictor_kwargs`` or ``encoder_class``. By default, images that the policy's features extractor flattens are not
        embedded by convolutions
    :param save_path: The file in which the world model is saved when the training ends; None does not save it. The RL Zoo
        sets it to ``world_model.pth`` beside the model
    :param save_freq: The number of calls of the callback between two checkpoints ``<save_path>_<steps>_steps.pth``, as in
        SB3's ``CheckpointCallback``; None for no checkpoints
    :param verbose: The verbosity level: 0 shows a progress bar of the pretraining on a terminal only, 1 always
    :raises ValueError: If a value cannot work, or an intrinsic reward cannot be added to the algorithm
    """

    def __init__(
        self,
        intrinsic_reward_scale: ScheduleArgument = "lin_0.04",
        intrinsic_reward_fraction: float = 0.5,
        intrinsic_reward_clip: float | None = 5.0,
        intrinsic_reward_momentum: float = 0.99,
        intrinsic_reward_normalizer: str = "moving",
        gamma: float = 0.99,
        learning_rate: float = 5e-4,
        n_passes: int = 2,
        chunk_length: int | None = None,
        warm_up: int = 16,
        update_interval: int = 1,
        encoder_objective: str = "w-mse",
        encoder_updates: int = 8,
        encoder_pretraining_updates: int = 0,
        world_model_kwargs: Mapping[str, Any] | None = None,
        save_path: str | Path | None = None,
        save_freq: int | None = None,
        verbose: int = 0,
    ) -> None:
        super().__init__(verbose)
        self.intrinsic_reward_scale = make_schedule(
            "intrinsic_reward_scale", intrinsic_reward_scale, intrinsic_reward_fraction
        )
        if not 0.0 < intrinsic_reward_fraction <= 1.0:
            raise ValueError(f"intrinsic_reward_fraction={intrinsic_reward_fraction}: it must be in (0, 1].")
        for name, value, lowest in (
            *(("n_passes", n_passes, 0), ("chunk_length", CHUNK_LENGTH if chunk_length is None else chunk_length, 1)),
            *(("warm_up", warm_up, 0), ("update_interval", update_interval, 1), ("encoder_updates", encoder_updates, 0)),
            ("encoder_pretraining_updates", encoder_pretraining_updates, 0),
        ):
            if not isinstance(value, int) or value < lowest:
                raise ValueError(f"{name}={value!r}: it must be an integer >= {lowest}.")
        if not 0.0 <= gamma < 1.0:
            raise ValueError(f"gamma={gamma}: it must be in [0, 1), since intrinsic returns do not end with an episode.")
        self.gamma = gamma
        self.learning_rate = learning_rate
        self.n_passes = n_passes
        self.chunk_length = chunk_length
        self.warm_up = warm_up
        self.update_interval = update_interval
        self.encoder_updates = encoder_updates
        self.encoder_pretraining_updates = encoder_pretraining_updates
        self.world_model_kwargs: dict[str, Any] = {
            "intrinsic_reward_scale": 1.0,
            "intrinsic_reward_clip": intrinsic_reward_clip,
            "intrinsic_reward_momentum": intrinsic_reward_momentum,
            "intrinsic_reward_normalizer": intrinsic_reward_normalizer,
            "encoder_objective": encoder_objective,
            "predictor_kwargs": {"input_size": 128},
            **(world_model_kwargs or {}),
        }
        self.save_path = None if save_path is None else Path(save_path)
        self.save_freq = save_freq
        # None until a training starts; off-policy algorithms have no critic of their own for the intrinsic reward
        self.trainer: WorldModelTrainer | None = None
        self.critic: IntrinsicCritic | None = None
        self._reward: RolloutReward | ReplayReward | None = None
        self._loaded: dict[str, Any] | None = None
        # the state of the callback's own generator, which leaves the random numbers of the algorithm unchanged
        self._random_state: th.Tensor | None = None

    # --- The course of a training ---

    def _on_training_start(self) -> None:
        self._check_model()
        if self.verbose >= 1 and self.model.device.type == "cpu":
            say_that_kernel_is_missing()
        _in_use[self.model] = (self.model.start_time, self)
        if self._random_state is None:
            self._random_state = th.Generator().manual_seed(self.model.seed or 0).get_state()
        with self._own_random_numbers():
            if self.trainer is None:
                self.trainer = self._make_trainer()
                self.critic = self._make_critic(self.trainer)
            if self._loaded is not None:
                self._set_state(self._loaded)
            if self._reward is None or self._reward.model is not self.model:
                self._reward = self._make_reward(self.trainer)
        if isinstance(self._reward, ReplayReward):
            self._reward.attach()

    def _check_model(self) -> None:
        """Raise an error for unsupported algorithms, and for a second callback."""
        if isinstance(self.model, LWMDQN):
            raise ValueError(
                "IntrinsicRewardCallback is for other algorithms: LWMDQN has a world model of its own. Use its argument "
                "intrinsic_reward_scale, and leave the callback out."
            )
        if not isinstance(self.model, OnPolicyAlgorithm | OffPolicyAlgorithm):
            raise ValueError(
                f"IntrinsicRewardCallback: {type(self.model).__name__} has neither rollouts nor a replay to add rewards to: "
                "use an on-policy or off-policy algorithm such as PPO or SAC."
            )
        start, other = _in_use.get(self.model, (None, self))
        if other is not self and start == self.model.start_time:
            raise ValueError("Two IntrinsicRewardCallbacks in one training: leave one of them out.")

    def _make_trainer(self) -> WorldModelTrainer:
        """Build the world model and its optimizers for the spaces of the algorithm."""
        model = self.model
        action_space: spaces.Space = model.action_space
        if isinstance(action_space, spaces.Box) and (
            isinstance(model, OffPolicyAlgorithm) or getattr(model.policy, "squash_output", False)
        ):
            # these algorithms store scaled actions
            action_space = spaces.Box(-1.0, 1.0, action_space.shape)
        images = {
            "flatten_images": issubclass(model.policy.features_extractor_class, FlattenExtractor),
            "normalize_images": model.policy.normalize_images,
        }
        forgetting = {"intrinsic_reward_forgets_start": isinstance(model, OnPolicyAlgorithm)}
        kwargs = {**images, **forgetting, **self.world_model_kwargs}
        world_model = LatentWorldModel(model.observation_space, action_space, **kwargs).to(model.device)
        encoder_parameters = [*world_model.encoder.parameters(), *world_model.objectives.parameters()]
        trains_encoder = bool(world_model.encoder_objectives())
        return WorldModelTrainer(
            world_model,
            th.optim.Adam(world_model.predictor.parameters(), lr=self.learning_rate),
            th.optim.Adam(encoder_parameters, lr=self.learning_rate) if trains_encoder else None,
            self.learning_rate,
            FiniteGuard(lambda: f"(Step {self.num_timesteps} of {type(self.model).__name__}, in IntrinsicRewardCallback.)"),
        )

    def _make_critic(self, trainer: WorldModelTrainer) -> IntrinsicCritic | None:
        """Build the value function of the intrinsic reward, which on-policy algorithms need."""
        if not isinstance(self.model, OnPolicyAlgorithm):
            return None
        latent_size = trainer.world_model.latent_size
        return IntrinsicCritic(latent_size, self.gamma, self.learning_rate, trainer.finite_guard).to(self.model.device)

    def _make_reward(self, trainer: WorldModelTrainer) -> RolloutReward | ReplayReward:
        """Make the object that adds the rewards in an algorithm of this kind."""
        if isinstance(self.model, OnPolicyAlgorithm):
            n_steps = self.model.n_steps
            if self.chunk_length is not None and self.chunk_length > n_steps:
                raise ValueError(
                    f"chunk_length={self.chunk_length} is longer than a rollout of n_steps={n_steps}: lower it, or leave it "
                    "out."
                )
            chunk_length = self.chunk_length or min(CHUNK_LENGTH, n_steps)
            assert self.critic is not None
            return RolloutReward(self.model, trainer, self.critic, self.n_passes, chunk_length, self.encoder_updates)
        assert isinstance(self.model, OffPolicyAlgorithm)
        return ReplayReward(self.model, trainer, self.warm_up, self.update_interval, self._scale)

    def _scale(self) -> float:
        """Return the present factor of the normalised prediction errors."""
        return self.intrinsic_reward_scale(self.model._current_progress_remaining)

    @contextmanager
    def _own_random_numbers(self) -> Iterator[None]:
        """Draw PyTorch's random numbers from the callback's own generator."""
        devices = [self.model.device] if self.model.device.type == "cuda" else []
        with th.random.fork_rng(devices=devices):
            assert self._random_state is not None
            th.set_rng_state(self._random_state)
            yield
            self._random_state = th.get_rng_state()

    def _on_rollout_start(self) -> None:
        if isinstance(self._reward, RolloutReward):
            self._reward.on_rollout_start()

    def _on_step(self) -> bool:
        if isinstance(self._reward, RolloutReward):
            self._reward.on_step(self.locals["dones"], self.locals["infos"])
        if self.save_path is not None and self.save_freq is not None and self.n_calls % self.save_freq == 0:
            self.save(self.save_path.with_name(f"{self.save_path.stem}_{self.num_timesteps}_steps{self.save_path.suffix}"))
        return True

    def _on_rollout_end(self) -> None:
        assert self.trainer is not None
        with self._own_random_numbers():
            if isinstance(self._reward, RolloutReward):
                self._reward.on_rollout_end(self._scale())
            elif isinstance(self._reward, ReplayReward) and self.num_timesteps > self._reward.model.learning_starts:
                for _ in range(self.encoder_updates):
                    self._reward.update_encoder()
        for name, value in self.trainer.take_scalars().items():
            self.logger.record(f"world_model/{name}", value.item())

    def _on_training_end(self) -> None:
        if self.save_path is not None:
            self.save(self.save_path)
        if isinstance(self._reward, ReplayReward):
            self._reward.detach()

    # --- Saving ---

    def save(self, path: str | Path) -> None:
        """
        Write the weights of the world model and of the value function of the intrinsic reward, their optimizers and the
        statistics of the prediction errors.

        :param path: The file to write, usually ``*.pth``
        :raises ValueError: If no training has started yet
        """
        if self.trainer is None:
            raise ValueError("IntrinsicRewardCallback.save: there is no world model before the first training.")
        with whole_file(Path(path)) as temporary:
            th.save(self._get_state(), temporary)

    def load(self, path: str | Path) -> None:
        """
        Load a file that :meth:`save` has written. Before the first training, the weights are set when it starts.

        :param path: The file to read
        :raises ValueError: If the file is not such a file or was cut short, or the world model has other sizes
        """
        try:
            state = th.load(path, map_location="cpu", weights_only=True)
            self._loaded = {name: state[name] for name in STATE}
        except FileNotFoundError:
            raise
        except Exception as error:
            raise ValueError(f"{path} is not a world model of IntrinsicRewardCallback, or was cut short: {error}") from error
        if self.trainer is not None:
            self._set_state(self._loaded)

    def _get_state(self) -> dict[str, Any]:
        """Return the data that :meth:`save` writes."""
        assert self.trainer is not None
        trainer, critic = self.trainer, self.critic
        parts: dict[str, Any] = {
            "world_model": trainer.world_model,
            "optimizer": trainer.optimizer,
            "encoder_optimizer": trainer.encoder_optimizer,
            "critic": critic,
            "critic_optimizer": None if critic is None else critic.optimizer,
        }
        return {name: None if part is None else part.state_dict() for name, part in parts.items()}

    def _set_state(self, state: dict[str, Any]) -> None:
        """Restore the data that :meth:`save` has written."""
        assert self.trainer is not None
        self._loaded = None
        try:
            self.trainer.world_model.load_state_dict(state["world_model"])
        except RuntimeError as error:
            raise ValueError(f"The saved world model does not fit the spaces or sizes of this training: {error}") from error
        self.trainer.optimizer.load_state_dict(state["optimizer"])
        if self.trainer.encoder_optimizer is not None and state["encoder_optimizer"] is not None:
            self.trainer.encoder_optimizer.load_state_dict(state["encoder_optimizer"])
        # the file of an off-policy algorithm has no critic
        if self.critic is not None and state["critic"] is not None:
            self.critic.load_state_dict(state["critic"])
            self.critic.optimizer.load_state_dict(state["critic_optimizer"])
