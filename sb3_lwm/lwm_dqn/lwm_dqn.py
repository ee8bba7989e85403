"""LWM-DQN: a recurrent dueling double DQN that learns from the environment's reward and from an intrinsic reward."""

import inspect
import pathlib
import pickle
import warnings
from collections import deque
from typing import Any, ClassVar, TypeVar

import numpy as np
import torch as th
from gymnasium import spaces
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.buffers import ReplayBuffer
from stable_baselines3.common.callbacks import BaseCallback, CallbackList, ConvertCallback, ProgressBarCallback
from stable_baselines3.common.noise import ActionNoise
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.save_util import load_from_pkl, open_path
from stable_baselines3.common.type_aliases import GymEnv, MaybeCallback, RolloutReturn, Schedule, TrainFreq
from stable_baselines3.common.utils import LinearSchedule
from stable_baselines3.common.vec_env import VecEnv
from stable_baselines3.common.vec_env.patch_gym import _patch_env
from stable_baselines3.dqn.dqn import DQN

from sb3_lwm.common.exploration import agent_generator, epsilon_ladder
from sb3_lwm.common.files import Path, check_model_file, policy_of_version_0_1
from sb3_lwm.common.finite_guard import FiniteGuard, NonFiniteError
from sb3_lwm.common.gru_kernel import say_that_kernel_is_missing
from sb3_lwm.common.optimizers import optimizer_step
from sb3_lwm.common.schedules import ScheduleArgument, make_schedule
from sb3_lwm.common.threads import one_thread_for_small_networks
from sb3_lwm.common.type_aliases import RecurrentState, SequenceSamples, map_observations
from sb3_lwm.envs import AtariVecEnv, CopyFinalObservation
from sb3_lwm.envs.atari.callback import record_coverage
from sb3_lwm.lwm_dqn.callback import LatentWorldModelCallback
from sb3_lwm.lwm_dqn.normalization import original_observations
from sb3_lwm.lwm_dqn.policies import CnnPolicy, LWMPolicy, MlpPolicy, MultiInputPolicy
from sb3_lwm.lwm_dqn.q_network import RecurrentQNetwork
from sb3_lwm.lwm_dqn.td_learning import q_learning_errors, sequence_priorities
from sb3_lwm.lwm_dqn.transitions import next_observations
from sb3_lwm.lwm_dqn.validation import RULES, check_arguments, check_buffer_size, check_environment, fit_lengths
from sb3_lwm.replay import PrioritizedSequenceReplayBuffer, SequenceReplayBuffer
from sb3_lwm.replay.memory_budget import BATCH_BYTES, ReplayMemory
from sb3_lwm.replay.observation_storage import check_storage, observation_bytes
from sb3_lwm.training_state import TrainingStates, all_callbacks, loaded_arguments, newest_state
from sb3_lwm.world_model import WorldModelTrainer

SelfLWMDQN = TypeVar("SelfLWMDQN", bound="LWMDQN")

# The number of updates on a GPU between two readings of the losses, each of which makes it idle
READING_INTERVAL = 100
# The attributes that a training state holds, beside networks, optimizers and hidden states
COUNTERS = (
    *("num_timesteps", "_total_timesteps", "_episode_num", "_n_updates", "_n_calls"),
    *("_current_progress_remaining", "exploration_rate"),
)
ACTING = ("_last_obs", "_last_original_obs", "_last_episode_starts", "_sent_actions", "_collected_rollout")
# The arguments on which the networks depend, beside policy_kwargs, which SB3 compares itself
NETWORK_ARGUMENTS = ("use_world_model", "dueling", "intrinsic_reward_input", "encoder_objective")
# The constructor's arguments that load_training_state gets from the user
NOT_IN_TRAINING_STATE = ("self", "policy", "env", "device", "_init_setup_model")


class LWMDQN(DQN):
    """
    Recurrent dueling double DQN with sequence replay and the intrinsic reward of a latent world model.

    Paper: Ermolov and Sebe, "Latent World Models For Intrinsically Motivated Exploration", NeurIPS 2020,
    https://arxiv.org/abs/2010.02302. The defaults are its settings for the partially observable labyrinth.

    :param policy: The policy model to use (MlpPolicy, CnnPolicy, MultiInputPolicy)
    :param env: The environment to learn from (if registered in Gym, can be str)
    :param learning_rate: The learning rate of the Q-network, it can be a function of the current progress remaining
        (from 1 to 0)
    :param buffer_size: The size of the replay buffer in transitions, all environments together; it is allocated when it is
        first used. If it is too small for a sequence, ``burn_in`` and ``unroll`` are halved until one fits.
    :param learning_starts: The number of steps of uniformly random play before learning starts. If it is small, sequences
        and pretraining windows are shorter at first, as long as the rows in the replay allow.
    :param batch_size: The number of sequences in each update; fewer while a batch would have more rows than the replay
    :param tau: The soft update coefficient of the target network
    :param gamma: The discount factor
    :param train_freq: Update the model every ``train_freq`` steps of the vector environment. Alternatively pass a tuple of
        frequency and unit like ``(5, "step")`` or ``(2, "episode")``.
    :param gradient_steps: The number of updates after each rollout; ``-1`` means as many as steps of all environments
    :param replay_buffer_class: A subclass of :class:`SequenceReplayBuffer`; by default ``prioritized_replay`` chooses it
    :param replay_buffer_kwargs: Keyword arguments to pass to the replay buffer on creation.
    :param optimize_memory_usage: Not used: the replay buffer stores each observation once in any case
    :param n_steps: The number of rewards before the bootstrap of the n-step return
    :param target_update_interval: The number of steps between two soft updates of the target network; None updates it after
        each update of the Q-network
    :param burn_in: The number of transitions at the start of a sequence that warm the hidden state up, without gradient
    :param unroll: The number of learned transitions of a sequence
    :param double_q: Whether the online network chooses the action of the bootstrap; if False the target network does
    :param dueling: Whether the Q-network has a dueling head
    :param value_rescaling: Whether the networks learn ``h(Q)`` instead of ``Q``
    :param prioritized_replay: Whether to sample sequences by their TD error, with the hidden state stored at their start; if
        False any window is sampled uniformly, with a hidden state of zeros
    :param priority_exponent: The exponent of the priorities in the sampling probabilities
    :param importance_exponent: The exponent of the importance weights; 0 switches them off
    :param priority_max_weight: The weight of the largest TD error of a sequence in its priority, against their mean
    :param exploration_fraction: The fraction of the training over which the exploration rate is reduced
    :param exploration_initial_eps: The initial value of the random action probability
    :param exploration_final_eps: The final value of the random action probability
    :param exploration_eps_base: If given, environment ``i`` of ``E`` explores with
        ``exploration_eps_base^(1 + exploration_eps_alpha i / (E - 1))`` for the whole training, instead of the schedule
    :param exploration_eps_alpha: The parameter ``exploration_eps_alpha`` of this formula
    :param evaluation_eps: The random action probability of ``predict(deterministic=False)``
    :param max_grad_norm: The maximum value for the Q-network's gradient clipping; None for no clipping
    :param use_world_model: Whether there is a world model; if False the agent is a plain recurrent DQN without intrinsic
        reward
    :param intrinsic_reward_scale: The factor of the normalised prediction error: a number, ``"lin_1.0"`` for one that falls
        linearly to 0, or a function of the progress remaining (from 1 to 0). As an input of the Q-network the reward keeps its
        first scale.
    :param intrinsic_reward_input: Whether the intrinsic reward of each step is an input of the Q-network, beside the last
        action; it is part of the learned return in any case
    :param intrinsic_reward_clip: The bound of the normalised prediction error, in standard deviations; None for no clipping
    :param intrinsic_reward_momentum: The momentum of the running mean and standard deviation of the prediction error
    :param intrinsic_reward_normalizer: ``"moving"`` (LWM) divides by the present standard deviation of the prediction error,
        ``"long-run"`` by the average over the whole training, so that the reward shrinks with the errors
    :param intrinsic_reward_fraction: The fraction of the training over which a linear scale falls to 0
    :param world_model_learning_rate: The learning rate of the world model
    :param pretraining_updates: The number of updates of the world model at the end of the warm-up; by default one for each
        ten steps of ``learning_starts``, at least 1 and at most the paper's 1000
    :param pretraining_batch_size: The number of windows in each of these updates
    :param pretraining_sequence_length: The number of transitions of each window
    :param encoder_objective: The objective of the encoder of images: ``"w-mse"``, ``"inverse-dynamics"``, ``"cpc"``, or
        ``"random"``, which leaves the encoder untrained
    :param encoder_pretraining_updates: The number of updates of the encoder of images before those of the world model; by
        default the default of ``pretraining_updates``
    :param storage_device: The device that holds the replay's observations: ``"cpu"`` for the host's memory, or a GPU
    :param compression: The lossless compression of the replay's observations in the host's memory: ``"zstd"`` or None
    :param step_ahead: Whether the next actions are sent to the environments before an update instead of after it, so that
        they step while it runs; for :class:`~sb3_lwm.envs.AtariVecEnv`
    :param mixed_precision: Whether convolutions run in bfloat16; for GPUs
    :param compile_networks: Whether ``torch.compile`` compiles the convolutions; for GPUs
    :param stats_window_size: Window size for the rollout logging, specifying the number of episodes to average
        the reported success rate, mean episode length, and mean reward over
    :param tensorboard_log: The log location for tensorboard (if None, no logging)
    :param policy_kwargs: Additional arguments to be passed to the policy on creation, see :class:`LWMPolicy`
    :param verbose: Verbosity level: 0 for no output, 1 for info messages (such as device or wrappers used), 2 for
        debug messages
    :param seed: Seed for the pseudo random generators
    :param device: Device (cpu, cuda, ...) on which the code should be run.
        Setting it to auto, the code will be run on the GPU if possible.
    :param _init_setup_model: Whether or not to build the network at the creation of the instance
    :raises ValueError: If a value cannot work; the message names the argument and a remedy
    """

    policy_aliases: ClassVar[dict[str, type[BasePolicy]]] = {
        "MlpPolicy": MlpPolicy,
        "CnnPolicy": CnnPolicy,
        "MultiInputPolicy": MultiInputPolicy,
    }
    policy: LWMPolicy
    q_net: RecurrentQNetwork  # type: ignore[assignment]
    q_net_target: RecurrentQNetwork  # type: ignore[assignment]
    _replay_buffer: SequenceReplayBuffer | None

    def __init__(
        self,
        policy: str | type[LWMPolicy],
        env: GymEnv | str,
        learning_rate: float | Schedule = 5e-4,
        buffer_size: int = 100_000,
        learning_starts: int = 10_000,
        batch_size: int = 32,
        tau: float = 0.05,
        gamma: float = 0.99,
        train_freq: int | tuple[int, str] = 4,
        gradient_steps: int = 1,
        replay_buffer_class: type[SequenceReplayBuffer] | None = None,
        replay_buffer_kwargs: dict[str, Any] | None = None,
        optimize_memory_usage: bool = False,
        n_steps: int = 1,
        target_update_interval: int | None = None,
        burn_in: int = 16,
        unroll: int = 32,
        double_q: bool = True,
        dueling: bool = True,
        value_rescaling: bool = True,
        prioritized_replay: bool = False,
        priority_exponent: float = 0.9,
        importance_exponent: float = 0.6,
        priority_max_weight: float = 0.9,
        exploration_fraction: float = 0.1,
        exploration_initial_eps: float = 0.01,
        exploration_final_eps: float = 0.01,
        exploration_eps_base: float | None = None,
        exploration_eps_alpha: float = 7.0,
        evaluation_eps: float = 0.01,
        max_grad_norm: float | None = 40.0,
        use_world_model: bool = True,
        intrinsic_reward_scale: ScheduleArgument = 1.0,
        intrinsic_reward_input: bool = True,
        intrinsic_reward_clip: float | None = None,
        intrinsic_reward_momentum: float = 0.99,
        intrinsic_reward_normalizer: str = "moving",
        intrinsic_reward_fraction: float = 1.0,
        world_model_learning_rate: float = 5e-4,
        pretraining_updates: int | None = None,
        pretraining_batch_size: int = 64,
        pretraining_sequence_length: int = 100,
        encoder_objective: str = "w-mse",
        encoder_pretraining_updates: int | None = None,
        storage_device: str = "cpu",
        compression: str | None = None,
        step_ahead: bool = False,
        mixed_precision: bool = False,
        compile_networks: bool = False,
        stats_window_size: int = 100,
        tensorboard_log: str | None = None,
        policy_kwargs: dict[str, Any] | None = None,
        verbose: int = 0,
        seed: int | None = None,
        device: th.device | str = "auto",
        _init_setup_model: bool = True,
    ) -> None:
        super().__init__(
            policy,
            env,
            learning_rate=learning_rate,
            buffer_size=buffer_size,
            learning_starts=learning_starts,
            batch_size=batch_size,
            tau=tau,
            gamma=gamma,
            train_freq=train_freq,
            gradient_steps=gradient_steps,
            replay_buffer_class=replay_buffer_class,
            replay_buffer_kwargs=replay_buffer_kwargs,
            optimize_memory_usage=optimize_memory_usage,
            n_steps=n_steps,
            target_update_interval=target_update_interval,  # type: ignore[arg-type]
            exploration_fraction=exploration_fraction,
            exploration_initial_eps=exploration_initial_eps,
            exploration_final_eps=exploration_final_eps,
            stats_window_size=stats_window_size,
            tensorboard_log=tensorboard_log,
            policy_kwargs=policy_kwargs,
            verbose=verbose,
            seed=seed,
            device=device,
            _init_setup_model=False,
        )
        self.max_grad_norm = max_grad_norm  # type: ignore[assignment]
        self.burn_in = burn_in
        self.unroll = unroll
        self.double_q = double_q
        self.dueling = dueling
        self.value_rescaling = value_rescaling
        self.prioritized_replay = prioritized_replay
        self.priority_exponent = priority_exponent
        self.importance_exponent = importance_exponent
        self.priority_max_weight = priority_max_weight
        self.exploration_eps_base = exploration_eps_base
        self.exploration_eps_alpha = exploration_eps_alpha
        self.evaluation_eps = evaluation_eps
        self.use_world_model = use_world_model
        self.intrinsic_reward_scale = intrinsic_reward_scale
        self.intrinsic_reward_input = intrinsic_reward_input
        self.intrinsic_reward_clip = intrinsic_reward_clip
        self.intrinsic_reward_momentum = intrinsic_reward_momentum
        self.intrinsic_reward_normalizer = intrinsic_reward_normalizer
        self.intrinsic_reward_fraction = intrinsic_reward_fraction
        self.world_model_learning_rate = world_model_learning_rate
        self.pretraining_updates = pretraining_updates
        self.pretraining_batch_size = pretraining_batch_size
        self.pretraining_sequence_length = pretraining_sequence_length
        self.encoder_objective = encoder_objective
        self.encoder_pretraining_updates = encoder_pretraining_updates
        self.storage_device = storage_device
        self.compression = compression
        self.step_ahead = step_ahead
        self.mixed_precision = mixed_precision
        self.compile_networks = compile_networks
        self.finite_guard = FiniteGuard(self.describe_position)
        # the agent's own generators, so that draws of the environments from the global ones do not change its numbers
        self.rng = agent_generator(None)
        self.torch_rng = th.Generator(self.device)
        self.training_states = TrainingStates(self)
        # None without a world model
        self.world_model_trainer: WorldModelTrainer | None = None
        # hidden states before the last observation, and after it
        self._last_state: RecurrentState | None = None
        self._next_state: RecurrentState | None = None
        # the actions that have already been sent to the environments
        self._sent_actions: np.ndarray | None = None
        # the number of steps of a collected rollout while the pretraining at its end runs
        self._collected_rollout: int | None = None
        if _init_setup_model:
            self._setup_model()

    # --- Construction ---

    @staticmethod
    def _wrap_env(env: GymEnv, verbose: int = 0, monitor_wrapper: bool = True) -> VecEnv:
        if not isinstance(env, VecEnv):
            env = CopyFinalObservation(_patch_env(env))
        return DQN._wrap_env(env, verbose, monitor_wrapper)

    def _setup_model(self) -> None:
        check_arguments({name: getattr(self, name) for name in RULES})
        check_environment(self.env)
        # a model that is loaded only to act has no environment, and will not need the storage
        check_storage(self.storage_device, self.compression, must_exist=self.env is not None)
        self._setup_lr_schedule()
        self.set_random_seed(self.seed)
        # the replay buffer is made by learn(), since a model that is loaded only to act does not need it
        self.policy = self.policy_class(  # type: ignore[assignment]
            self.observation_space, self.action_space, self.lr_schedule, **self.policy_arguments()
        ).to(self.device)
        self.policy.rng = self.rng
        self._create_aliases()
        self._convert_train_freq()
        self.exploration_schedule = LinearSchedule(
            self.exploration_initial_eps, self.exploration_final_eps, self.exploration_fraction
        )
        if self.policy.world_model is not None:
            for objective in self.policy.world_model.encoder_objectives().values():
                objective.generator = self.torch_rng
            self.world_model_trainer = WorldModelTrainer(
                self.policy.world_model,
                self.policy.world_model_optimizer,
                self.policy.encoder_optimizer,
                self.policy.world_model_learning_rate,
                self.finite_guard,
            )
        # a model that is loaded without an environment will not learn
        if self.env is not None:
            window = 0 if self.world_model_trainer is None else self.world_model_trainer.encoder_window
            check_buffer_size(self.buffer_size, self.n_envs, self.n_steps + 1, window)
            if self.target_update_interval is not None and self.n_envs > self.target_update_interval:
                warnings.warn(
                    f"The number of environments used is greater than the target network update interval ({self.n_envs} > "
                    f"{self.target_update_interval}), therefore the target network will be updated after each call to "
                    f"env.step(), which corresponds to {self.n_envs} steps.",
                    stacklevel=3,
                )

    @property
    def batch_norm_stats(self) -> list[th.Tensor]:  # type: ignore[override]
        """:return: The running statistics of the Q-network, which are copied to the target network"""
        return self.q_net.running_statistics()

    @property
    def batch_norm_stats_target(self) -> list[th.Tensor]:  # type: ignore[override]
        """:return: The running statistics of the target network"""
        return self.q_net_target.running_statistics()

    def set_random_seed(self, seed: int | None = None) -> None:
        """
        Seed the global generators, those of the environments and of the action space, and the agent's own. The agent draws
        actions, batches and augmentations from its own generators; dropout in custom networks uses PyTorch's global one.

        :param seed: The seed; None leaves the global generators as they are
        """
        super().set_random_seed(seed)
        # One draw from NumPy's global generator makes an agent without a seed reproducible after SB3's set_random_seed.
        # The state is replaced in place, because the policy and the replay share the generator.
        self.rng.bit_generator.state = agent_generator(np.random.randint(2**31)).bit_generator.state
        self.torch_rng.manual_seed(int(self.rng.integers(2**63)))

    def _reward_scale(self, progress_remaining: float) -> float:
        """Return the scale of the intrinsic reward at a progress from 1 to 0."""
        value, fraction = self.intrinsic_reward_scale, self.intrinsic_reward_fraction
        return make_schedule("intrinsic_reward_scale", value, fraction)(progress_remaining)

    @property
    def _first_reward_scale(self) -> float:
        """The scale of the intrinsic reward as an input of the Q-network."""
        scale = self._reward_scale(1.0)
        # with a schedule that starts at 0 the input is the normalised error without a factor
        return 1.0 if scale == 0.0 and self._reward_scale(0.0) > 0.0 else scale

    def policy_arguments(self) -> dict[str, Any]:
        """:return: The keyword arguments of the policy: ``policy_kwargs`` and the arguments of the agent for the policy"""
        world_model_kwargs = self.policy_kwargs.get("world_model_kwargs", {})
        if self.use_world_model and world_model_kwargs is not None:
            world_model_kwargs = {
                "intrinsic_reward_scale": self._first_reward_scale,
                "intrinsic_reward_clip": self.intrinsic_reward_clip,
                "intrinsic_reward_momentum": self.intrinsic_reward_momentum,
                "intrinsic_reward_normalizer": self.intrinsic_reward_normalizer,
                "encoder_objective": self.encoder_objective,
                **world_model_kwargs,
            }
        else:
            world_model_kwargs = None
        return {
            "dueling": self.dueling,
            "intrinsic_reward_input": self.intrinsic_reward_input,
            "evaluation_eps": self.evaluation_eps,
            "world_model_learning_rate": self.world_model_learning_rate,
            "mixed_precision": self.mixed_precision,
            "compile_networks": self.compile_networks,
            **self.policy_kwargs,
            "world_model_kwargs": world_model_kwargs,
        }

    # --- The replay ---

    @property
    def fitted_lengths(self) -> tuple[int, int]:
        """:return: ``burn_in`` and ``unroll``, halved until a sequence fits into the replay"""
        rows = self.buffer_size // self.n_envs
        return fit_lengths(self.burn_in, self.unroll, self.n_steps, rows, self.buffer_class.rows_needed)

    @property
    def sequence_length(self) -> int:
        """:return: The number of rows of a sequence: burn-in, learned rows, and the rows of the last n-step return"""
        return sum(self.fitted_lengths) + self.n_steps

    def _describe_lengths(self) -> str:
        """Return a description of the changes for a small replay or a short warm-up."""
        text = ""
        burn_in, unroll = self.fitted_lengths
        if (burn_in, unroll) != (self.burn_in, self.unroll):
            text += f" It is small: sequences have burn_in={burn_in} and unroll={unroll}."
        length = max(self.sequence_length, 0 if self.world_model_trainer is None else self.pretraining_sequence_length)
        if self.num_timesteps == 0 and self.learning_starts < self.n_envs * length:
            text += f" Until it holds {length} rows of an environment, sequences and pretraining windows are shorter."
        return text

    @property
    def buffer_class(self) -> type[SequenceReplayBuffer]:
        """:return: ``replay_buffer_class``, or the class that ``prioritized_replay`` chooses"""
        if self.replay_buffer_class is not None:
            return self.replay_buffer_class  # type: ignore[return-value]
        return PrioritizedSequenceReplayBuffer if self.prioritized_replay else SequenceReplayBuffer

    def _buffer_arguments(self) -> dict[str, Any]:
        arguments: dict[str, Any] = {
            "sequence_length": self.sequence_length,
            "storage_device": self.storage_device,
            "compression": self.compression,
        }
        if issubclass(self.buffer_class, PrioritizedSequenceReplayBuffer):
            arguments["stride"] = self.fitted_lengths[1]
            arguments["priority_exponent"] = self.priority_exponent
            arguments["importance_exponent"] = self.importance_exponent
        return {**arguments, **self.replay_buffer_kwargs}

    def _make_replay_buffer(self, buffer_size: int) -> SequenceReplayBuffer:
        buffer = self.buffer_class(
            buffer_size,
            self.observation_space,
            self.action_space,
            device=self.device,
            n_envs=self.n_envs,
            **self._buffer_arguments(),
        )
        buffer.rng = self.rng
        return buffer

    def replay_memory(self) -> ReplayMemory:
        """
        :return: The memory that the replay will need
        :raises ValueError: If the ``storage_device`` or the ``compression`` does not exist
        """
        arguments = self._buffer_arguments()
        compression = arguments["compression"]
        state_bytes = sum(part.nbytes for part in self.policy.initial_state(1))
        return ReplayMemory(
            buffer_size=self.buffer_size,
            observation_bytes=observation_bytes(self.observation_space),
            other_bytes=self.buffer_class.bytes_per_row(state_bytes, arguments.get("stride", 1)),
            storage_device=check_storage(arguments["storage_device"], compression),
            compression=compression,
            batch_bytes=self._largest_batch() * BATCH_BYTES,
            device=self.device,
        )

    def _largest_batch(self) -> int:
        """Return how many numbers the networks process in the largest batch, without pixels."""
        rows, size = self.batch_size * self.sequence_length, self.q_net.features_extractor.features_dim
        world_model = self.policy.world_model
        if world_model is not None:
            size = max(size, world_model.latent_size)
            pretraining_rows = self.pretraining_batch_size * self.pretraining_sequence_length
            if self.pretraining_updates is None:
                # by default a batch has no more rows than the warm-up
                pretraining_rows = min(pretraining_rows, self.learning_starts)
            if self.pretraining_updates != 0 and int(world_model.n_updates) == 0:
                rows = max(rows, pretraining_rows)
        return rows * size

    def allocate_replay(self) -> SequenceReplayBuffer:
        """
        :return: An empty replay buffer
        :raises MemoryError: If there is not enough memory for it
        """
        sentence = self.replay_memory().check()
        if self.verbose >= 1:
            print(sentence + self._describe_lengths())
        return self._make_replay_buffer(self.buffer_size)

    @property  # type: ignore[override]
    def replay_buffer(self) -> SequenceReplayBuffer | None:
        """:return: The replay, allocated when it is first used; None while a loaded model has no environment"""
        if self._replay_buffer is None and self.env is not None:
            self._replay_buffer = self.allocate_replay()
        return self._replay_buffer

    @replay_buffer.setter
    def replay_buffer(self, buffer: SequenceReplayBuffer | None) -> None:
        self._replay_buffer = buffer

    def add_episode(self, observations: Any, actions: Any, rewards: Any, terminated: bool = True) -> None:
        """
        Add an episode of another player, such as a demonstration, to the replay. Call it before ``learn`` or between two
        calls of it: the next call resets the environments if their episodes have not ended.

        The hidden states of the prioritised replay are those that the agent would have had in the episode.

        :param observations: The observations in the form for ``predict``, ``(T + 1, *observation shape)``, or a dictionary of
            arrays, without the normalisation of a VecNormalize; the last one is the final observation
        :param actions: The actions, (T,) int
        :param rewards: The rewards, (T,) float
        :param terminated: Whether the episode ended by a termination; if False, by a time-out
        :raises ValueError: If the lengths do not fit, a value is not finite, or the agent has no environment
        """
        actions, rewards = np.asarray(actions, dtype=np.int64), np.asarray(rewards, dtype=np.float32)
        raw = map_observations(lambda part: part.cpu().numpy(), self.policy.obs_to_tensor(observations)[0])
        lengths = {len(part) - 1 for part in (raw.values() if isinstance(raw, dict) else [raw])} | {len(actions), len(rewards)}
        if len(lengths) > 1 or 0 in lengths:
            raise ValueError(
                f"{len(actions)} actions and {len(rewards)} rewards must come with one observation more, and with the same "
                "number of each key of a dictionary."
            )
        if self.replay_buffer is None:
            raise ValueError("The agent has no environment, and so no replay: give it one with set_env.")
        self.finite_guard.check_step(raw, np.append(rewards, 0.0))
        seen = raw if self._vec_normalize_env is None else self._vec_normalize_env.normalize_obs(raw)
        if self.replay_buffer.truncate_episodes():
            self._last_obs = None
        self.replay_buffer.add_episode(raw, actions, rewards, terminated, self.policy.states_along(seen, actions))

    def load_replay_buffer(self, path: Path, truncate_last_traj: bool = True) -> None:
        """
        Load a replay buffer from a pickle file.

        :param path: The file that ``save_replay_buffer`` has written
        :param truncate_last_traj: Not used: ``learn`` resets the environments, which ends their present episodes
        :raises ValueError: If the file is not a replay buffer or was cut short, or was made with other values of settings
            that cannot be changed: buffer_size, unroll (of a prioritised replay), storage_device, compression
        """
        file = open_path(path, "r", verbose=self.verbose, suffix="pkl")
        try:
            buffer = load_from_pkl(file, self.verbose)
        except ModuleNotFoundError as error:
            raise ValueError(f"{path} was written by sb3-lwm 0.1 ({error}), whose replay buffers cannot be loaded.") from error
        except (pickle.UnpicklingError, EOFError) as error:
            raise ValueError(f"{path} is not a replay buffer, or was cut short ({error}).") from error
        finally:
            if isinstance(path, str | pathlib.Path):
                file.close()
        # as small as possible, since it is only used for a comparison
        arguments = self._buffer_arguments()
        rows = self.buffer_class.rows_needed(arguments["sequence_length"], arguments.get("stride", 1))
        expected = self._make_replay_buffer(self.n_envs * rows)
        size = self.buffer_size // self.n_envs // expected.stride * expected.stride * self.n_envs
        needed = {"__class__": expected.__class__, "n_envs": self.n_envs, "stride": expected.stride, "total_size": size}
        for name in ("observation_space", "storage_device", "compression"):
            needed[name] = getattr(expected, name)
        for name, value in needed.items():
            if getattr(buffer, name, None) != value:
                raise ValueError(
                    f"The replay buffer in {path} does not fit this agent: its {name.replace('total', 'buffer')} is "
                    f"{getattr(buffer, name, None)}, the agent needs {value}. Load the agent with the same settings."
                )
        buffer.take_settings(expected)
        buffer.device = self.device
        buffer.rng = self.rng
        self.replay_buffer = buffer

    # --- Learning ---

    def learn(
        self: SelfLWMDQN,
        total_timesteps: int,
        callback: MaybeCallback = None,
        log_interval: int = 4,
        tb_log_name: str = "LWMDQN",
        reset_num_timesteps: bool = True,
        progress_bar: bool = False,
    ) -> SelfLWMDQN:
        """
        See :meth:`stable_baselines3.DQN.learn`; the callback that trains the world model is added to the given ones. On a CPU,
        networks without convolutions use one thread, unless the user has chosen a number.
        """
        if self.verbose >= 1 and self.device.type == "cpu":
            say_that_kernel_is_missing()
        is_small = self.device.type == "cpu" and not self.policy.has_convolutions
        with self.training_states.learning(), one_thread_for_small_networks(is_small, self.verbose):
            return super().learn(total_timesteps, callback, log_interval, tb_log_name, reset_num_timesteps, progress_bar)

    def _setup_learn(
        self,
        total_timesteps: int,
        callback: MaybeCallback = None,
        reset_num_timesteps: bool = True,
        tb_log_name: str = "run",
        progress_bar: bool = False,
    ) -> tuple[int, BaseCallback]:
        # checked again, since set_env may have replaced the constructor's environments
        check_environment(self.env)
        if self.step_ahead and not isinstance(self.env and self.env.unwrapped, AtariVecEnv):
            raise ValueError(f"step_ahead=True needs an AtariVecEnv, not {self.env}: use step_ahead=False.")
        assert self.env is not None and self.replay_buffer is not None, "There is no environment to learn from: call set_env."
        is_reset = reset_num_timesteps or self._last_obs is None
        if self.optimize_memory_usage and reset_num_timesteps and self.replay_buffer.written.any():
            warnings.warn(
                "The last trajectory in the replay buffer will be truncated, as by SB3's DQN with optimize_memory_usage=True: "
                "use reset_num_timesteps=False to avoid that.",
                stacklevel=3,
            )
        if is_reset:
            # if the reset fails or returns values that are not finite, the next learn() resets again
            self._last_obs = None
        # not OffPolicyAlgorithm's method, which would truncate the last trajectory of SB3's own replay buffers
        result = BaseAlgorithm._setup_learn(self, total_timesteps, callback, reset_num_timesteps, tb_log_name, progress_bar)
        if is_reset:
            self._last_obs = map_observations(np.copy, self._last_obs)
            self.replay_buffer.truncate_episodes()
            self._last_state = None
            self._sent_actions = None
            self._collected_rollout = None
            if self._vec_normalize_env is not None:
                self._last_original_obs = original_observations(self.env)
            first_obs, self._last_obs = self._last_obs, None
            self.finite_guard.check_step(first_obs, np.zeros(self.n_envs))
            self._last_obs = first_obs
        return result

    def _init_callback(self, callback: MaybeCallback, progress_bar: bool = False) -> BaseCallback:
        own = None
        if self.world_model_trainer is not None:
            own = LatentWorldModelCallback(
                self.pretraining_updates,
                self.pretraining_batch_size,
                self.pretraining_sequence_length,
                self.encoder_pretraining_updates,
                verbose=self.verbose,
            )
            others = callback if isinstance(callback, list) else [callback]
            others = [other if isinstance(other, BaseCallback) else ConvertCallback(other) for other in others if other]
            callback = CallbackList([own, *others])
        callback = super()._init_callback(callback, progress_bar)
        if own is not None:
            # two progress bars would overwrite each other
            own.shows_progress = not any(isinstance(part, ProgressBarCallback) for part in all_callbacks(callback))
        self.training_states.begin(callback)
        return callback

    def train(self, gradient_steps: int, batch_size: int = 32) -> None:
        """
        Sample sequences, add the intrinsic reward, and update the Q-network and its target.

        :param gradient_steps: The number of updates
        :param batch_size: The number of sequences in each update
        :raises NonFiniteError: If a loss or a gradient is not finite; on a GPU up to ``READING_INTERVAL`` updates later
        """
        assert self.replay_buffer is not None
        if not self.replay_buffer.can_sample(self.n_steps + 1):
            # collect more transitions before the first update
            return
        self._update_learning_rate(self.policy.optimizer)
        if self.world_model_trainer is not None and self._first_reward_scale > 0.0:
            scale = self._reward_scale(self._current_progress_remaining)
            self.world_model_trainer.reward_factor = scale / self._first_reward_scale
        losses = []
        for _ in range(gradient_steps):
            samples = self._sample_sequences(batch_size)
            if self.world_model_trainer is not None:
                samples = self.world_model_trainer.update(samples)
            self.policy.set_training_mode(True)
            td_errors = self._td_errors(samples)
            loss = (td_errors.square().sum(dim=0) * samples.importance_weights).mean()
            self._update_q_network(loss)
            self._update_priorities(samples, td_errors)
            losses.append(loss.detach())
        self.log_world_model()
        if self.reads_scalars:
            self.finite_guard.read()
            self.logger.record("train/loss", th.stack(losses).mean().item())
        self._n_updates += gradient_steps
        self.logger.record("train/n_updates", self._n_updates, exclude="tensorboard")

    def _sample_sequences(self, batch_size: int) -> SequenceSamples:
        """Draw sequences, or the longest windows until the replay has a whole sequence; at most as many as the rows fill."""
        buffer = self.replay_buffer
        assert buffer is not None
        length = min(buffer.sequence_length, buffer.longest_window)
        fitted_batch_size = buffer.fitted_batch_size(batch_size, length)
        if not buffer.can_sample():
            return self.sample_windows(fitted_batch_size, length)
        self._prioritize_new_sequences(batch_size)
        return buffer.sample(fitted_batch_size, self._vec_normalize_env)

    def sample_windows(self, batch_size: int, sequence_length: int, within_episode: bool = False) -> SequenceSamples:
        """
        Draw windows from the replay, normalised by the present statistics of the environments.

        :param batch_size: The number of windows, ``B``
        :param sequence_length: The number of rows of a window, ``T``
        :param within_episode: Whether each window must lie inside one episode
        :return: The (T, B) rows
        """
        assert self.replay_buffer is not None
        return self.replay_buffer.sample_windows(batch_size, sequence_length, within_episode, self._vec_normalize_env)

    def _td_errors(self, samples: SequenceSamples) -> th.Tensor:
        """Return the (unroll, B) TD errors of samples with intrinsic rewards, see :func:`q_learning_errors`."""
        # a shorter window has a shorter burn-in or no burn-in
        burn_in = max(len(samples.rewards) - self.fitted_lengths[1] - self.n_steps, 0)
        q_values = self.q_net.q_values(samples, burn_in)
        with th.no_grad():
            target_q_values = self.q_net_target.q_values(samples, burn_in)
        return q_learning_errors(
            q_values, target_q_values, samples, self.gamma, self.n_steps, self.double_q, self.value_rescaling
        )

    def _update_q_network(self, loss: th.Tensor) -> None:
        """Make one optimizer step, and update the target network unless it is updated at intervals."""
        remedy = f"lower learning_rate (now {self.learning_rate}) or the rewards"
        norm = self.finite_guard.backward(self.policy.optimizer, loss, "Q-network", remedy, self.max_grad_norm)
        if self.max_grad_norm is not None and self.reads_scalars:
            self.logger.record("train/grad_norm", norm.item())
        optimizer_step(self.policy.optimizer)
        if self.target_update_interval is None:
            self.policy.move_target(self.tau)

    def _prioritize_new_sequences(self, batch_size: int) -> None:
        """Give new sequences of the prioritised replay the priority of their own TD error (R2D2, section 2.3)."""
        if not isinstance(self.replay_buffer, PrioritizedSequenceReplayBuffer):
            return
        sequence_ids = self.replay_buffer.take_without_priority(n_waiting=batch_size)
        for start in range(0, len(sequence_ids), batch_size):
            samples = self.replay_buffer.sequences(sequence_ids[start : start + batch_size], self._vec_normalize_env)
            if self.world_model_trainer is not None:
                samples = self.world_model_trainer.relabel(samples)
            with th.no_grad():
                self._update_priorities(samples, self._td_errors(samples))

    def _update_priorities(self, samples: SequenceSamples, td_errors: th.Tensor) -> None:
        # windows without a stored hidden state are not sequences of the prioritised replay
        if isinstance(self.replay_buffer, PrioritizedSequenceReplayBuffer) and samples.initial_states is not None:
            priorities = sequence_priorities(td_errors.detach(), self.priority_max_weight)
            self.replay_buffer.update_priorities(samples.sequence_ids, priorities)

    # --- Logging ---

    @property
    def reads_scalars(self) -> bool:
        """:return: Whether to read the losses now, which makes a GPU idle"""
        return self.device.type == "cpu" or self._n_updates % READING_INTERVAL == 0

    def log_world_model(self) -> None:
        """Record the scalars of the world model's last updates under ``world_model/``."""
        if self.world_model_trainer is None:
            return
        scalars = self.world_model_trainer.take_scalars()
        if self.reads_scalars:
            for name, value in scalars.items():
                self.logger.record(f"world_model/{name}", value.item())

    def dump_logs(self) -> None:
        """Write log data, with the coverage of Atari games, see :class:`~sb3_lwm.CoverageCallback`."""
        record_coverage(self)
        super().dump_logs()

    def describe_position(self) -> str:
        """:return: A description of the training's position and of the state from which it can be resumed"""
        position = f"(Step {self.num_timesteps}, update {self._n_updates}."
        last = self.last_training_state
        return f"{position})" if last is None else f"{position} The last training state is {last}.)"

    # --- Acting ---

    def collect_rollouts(self, env: VecEnv, callback: BaseCallback, *args: Any, **kwargs: Any) -> RolloutReturn:
        """See :meth:`stable_baselines3.common.off_policy_algorithm.OffPolicyAlgorithm.collect_rollouts`."""
        self.training_states.safe_point()
        if self._collected_rollout is not None:
            # resumed in the middle of the pretraining
            callback.update_locals({"num_collected_steps": self._collected_rollout // env.num_envs})
            callback.on_rollout_end()
            rollout = RolloutReturn(self._collected_rollout, n_episodes=0, continue_training=True)
        else:
            rollout = self._collect(env, callback, *args, **kwargs)
        self._collected_rollout = None
        if not rollout.continue_training:
            # A callback has stopped the training on a step that SB3 does not store. The next observation would not be that of
            # the stored transition: a later learn() resets the environments.
            self._last_obs = None
        return rollout

    def mark_rollout_as_collected(self, n_steps: int) -> None:
        """
        Remember that a rollout was collected, in case the training is saved and resumed before its end is handled.

        :param n_steps: The number of its steps, all environments together
        """
        if self._collected_rollout is None:
            self._collected_rollout = n_steps

    def _collect(self, *args: Any, **kwargs: Any) -> RolloutReturn:
        """Collect a rollout; after any exception the last observation may differ from the present one of the environments."""
        try:
            return super().collect_rollouts(*args, **kwargs)
        except BaseException as error:
            # a later learn() resets the environments
            self._last_obs = self._sent_actions = None
            if isinstance(error, NonFiniteError) or not isinstance(error, Exception):
                # a state with non-finite values is not saved, and an interruption is not delayed by saving one
                raise
            self.training_states.failed()
            if isinstance(error, EOFError | ConnectionError):
                raise RuntimeError(
                    "A process of the environments has ended; it has printed its own error above. "
                    "sb3_lwm.envs.ReportingSubprocVecEnv, in the place of SubprocVecEnv, raises that here."
                ) from error
            raise

    def _exploration_epsilons(self) -> np.ndarray | float:
        """Return the probability of a random action, (n_envs,) float or one for all."""
        if self.exploration_eps_base is None:
            return self.exploration_rate
        return np.array(epsilon_ladder(self.n_envs, self.exploration_eps_base, self.exploration_eps_alpha))

    def _on_step(self) -> None:
        if self.target_update_interval is not None:
            super()._on_step()
        self.exploration_rate = self.exploration_schedule(self._current_progress_remaining)
        self.logger.record("rollout/exploration_rate", float(np.mean(self._exploration_epsilons())))

    def _sample_action(
        self, learning_starts: int, action_noise: ActionNoise | None = None, n_envs: int = 1
    ) -> tuple[np.ndarray, np.ndarray]:
        if self._sent_actions is not None:
            # VecEnv.step sends the actions a second time, which AtariVecEnv recognises
            actions, self._sent_actions = self._sent_actions, None
            return actions, self._stored_actions(actions)
        assert self._last_obs is not None and self._last_episode_starts is not None
        if self._last_state is None:
            # also for a loaded agent whose environments were not reset: for it and for the replay an episode begins here
            self._last_state = self.policy.initial_state(n_envs)
            self._last_episode_starts = np.ones(n_envs, dtype=bool)
        # the networks are also stepped during the warm-up, whose sequences are stored with their hidden states
        epsilons = 1.0 if self.num_timesteps < learning_starts else self._exploration_epsilons()
        observations, _ = self.policy.obs_to_tensor(self._last_obs)
        starts = th.as_tensor(self._last_episode_starts, dtype=th.bool, device=self.device)
        actions, self._next_state = self.policy.act(observations, self._last_state, starts, epsilons)
        return actions, self._stored_actions(actions)

    def _stored_actions(self, actions: np.ndarray) -> np.ndarray:
        """Return actions counted from 0, as the replay and the networks do."""
        assert isinstance(self.action_space, spaces.Discrete)
        return actions - int(self.action_space.start)

    def _store_transition(
        self,
        replay_buffer: ReplayBuffer,
        buffer_action: np.ndarray,
        new_obs: np.ndarray | dict[str, np.ndarray],
        reward: np.ndarray,
        dones: np.ndarray,
        infos: list[dict[str, Any]],
    ) -> None:
        # copies: the environments may write their next observations into the same arrays
        new_obs = map_observations(np.copy, new_obs)
        obs, original_obs, restore = self._last_obs, new_obs, None
        if self._vec_normalize_env is not None:
            assert self.env is not None
            obs, original_obs = self._last_original_obs, map_observations(np.copy, original_observations(self.env))
            reward = self._vec_normalize_env.get_original_reward()
            restore = self._vec_normalize_env.unnormalize_obs
        next_obs = next_observations(obs, original_obs, dones, infos, restore)
        self.finite_guard.check_step(next_obs, reward)
        assert isinstance(replay_buffer, SequenceReplayBuffer)
        replay_buffer.add(obs, next_obs, buffer_action, reward, dones, infos, self._last_state, self._next_state)
        self._last_obs, self._last_original_obs = new_obs, original_obs
        self._last_episode_starts = dones
        self._last_state = self._next_state
        if self.step_ahead and self.num_timesteps < self._total_timesteps:
            assert self.env is not None
            self._sent_actions, _ = self._sample_action(self.learning_starts, n_envs=self.n_envs)
            self.env.step_async(self._sent_actions)

    def predict(  # type: ignore[override]
        self,
        observation: np.ndarray | dict[str, np.ndarray],
        state: RecurrentState | None = None,
        episode_start: np.ndarray | None = None,
        deterministic: bool = False,
    ) -> tuple[np.ndarray, RecurrentState]:
        """
        Get the action for an observation and the hidden states of the episode so far; see :meth:`LWMPolicy.predict`.

        :param observation: The observation of one environment or of several
        :param state: The hidden states that the last call returned; None at the start
        :param episode_start: Whether an episode begins with each observation, (n_envs,) bool
        :param deterministic: Whether to choose greedy actions only, False by default
        :return: The action or actions, and the hidden states for the next call
        """
        return self.policy.predict(observation, state, episode_start, deterministic)

    # --- Saving and resuming ---

    @classmethod
    def load(cls: type[SelfLWMDQN], path: Path, *args: Any, **kwargs: Any) -> SelfLWMDQN:
        """
        See :meth:`stable_baselines3.DQN.load`; without an environment no replay buffer is allocated.

        :param path: The file that ``save`` has written; models of sb3-lwm 0.1 can be loaded
        :param args: The other arguments of :meth:`stable_baselines3.DQN.load`
        :param kwargs: The keyword arguments of :meth:`stable_baselines3.DQN.load`
        :return: The agent
        :raises ValueError: If the file is not a model of LWM-DQN or was cut short, or an argument would change the networks;
            the message names the file
        """
        data = check_model_file(path)
        for name in NETWORK_ARGUMENTS:
            if name in kwargs and kwargs[name] != data.get(name, kwargs[name]):
                raise ValueError(
                    f"{name}={kwargs[name]!r}: {path} holds the networks of an agent with {name}={data[name]!r}, which cannot "
                    f"be changed. Leave {name} out, or train a new agent."
                )
        old_policy = policy_of_version_0_1(data)
        if old_policy is not None:
            custom_objects = {"policy_class": cls.policy_aliases[old_policy], **(kwargs.get("custom_objects") or {})}
            kwargs["custom_objects"] = custom_objects
        return super().load(path, *args, **kwargs)

    def set_parameters(self, load_path_or_dict: Any, *args: Any, **kwargs: Any) -> None:
        """
        See :meth:`stable_baselines3.DQN.set_parameters`.

        :param load_path_or_dict: A file that ``save`` has written, or the result of ``get_parameters``
        :param args: The other arguments of :meth:`stable_baselines3.DQN.set_parameters`
        :param kwargs: The keyword arguments of :meth:`stable_baselines3.DQN.set_parameters`
        :raises ValueError: If the file is not a model of LWM-DQN or was cut short; the message names the file
        """
        if not isinstance(load_path_or_dict, dict):
            check_model_file(load_path_or_dict)
        super().set_parameters(load_path_or_dict, *args, **kwargs)

    @property
    def last_training_state(self) -> pathlib.Path | None:
        """:return: The newest training state that this agent has written or was loaded from; None if there is none"""
        return self.training_states.last

    @property
    def total_timesteps(self) -> int:
        """:return: The number of steps at which the last ``learn`` ends"""
        return self._total_timesteps

    @property
    def remaining_timesteps(self) -> int:
        """:return: The number of steps that remain until the end of the last ``learn``"""
        return max(self._total_timesteps - self.num_timesteps, 0)

    def save_training_state(self, folder: str | pathlib.Path, keep_last: int = 2) -> pathlib.Path | None:
        """
        Write all data that the training needs to continue. Call it between an update and the next rollout, or after
        ``learn``; :class:`~sb3_lwm.TrainingStateCallback` does so by itself.

        :param folder: The folder in which ``state_<steps>`` is written
        :param keep_last: The number of states to keep in the folder
        :return: The folder of the state; None, with a warning, if it could not be written, which leaves the others unchanged
        :raises NonFiniteError: If an update was not finite; then the state is not written
        """
        return self.training_states.save(pathlib.Path(folder), keep_last)

    @classmethod
    def load_training_state(
        cls: type[SelfLWMDQN], path: str | pathlib.Path, env: GymEnv, device: th.device | str = "auto", **kwargs: Any
    ) -> SelfLWMDQN:
        """
        Make an agent that continues from a saved training state::

            model = LWMDQN.load_training_state("states", env)
            model.learn(model.remaining_timesteps, reset_num_timesteps=False, callback=TrainingStateCallback("states"))

        The agent has the constructor's arguments of the training. No code in the files is executed. Random generators and the
        counters of callbacks are restored when ``learn`` begins.

        :param path: The folder of a state, of several states, or of a run; the newest complete state is loaded, with a
            warning for each newer one that is not complete
        :param env: An environment like the one of the training
        :param device: The device of the networks
        :param kwargs: Arguments of the constructor that override the saved ones; functions, which cannot be saved
        :return: The agent
        :raises ValueError: If no state is complete, an argument is missing, or the training is still running
        """
        state, tree = newest_state(pathlib.Path(path))
        model = cls(env=env, device=device, **loaded_arguments(state, kwargs))
        model.training_states.restore(state, tree)
        return model

    def constructor_arguments(self) -> dict[str, Any]:
        """:return: The arguments that make an equal agent, except for the environment and the device"""
        arguments: dict[str, Any] = {"policy": self.policy_class}
        for name in inspect.signature(type(self).__init__).parameters:
            if name not in NOT_IN_TRAINING_STATE:
                value = getattr(self, name) if hasattr(self, name) else getattr(self, f"_{name}")
                arguments[name] = (value.frequency, value.unit.value) if isinstance(value, TrainFreq) else value
        return arguments

    def knows_environments(self) -> bool:
        """:return: Whether the last observation is the present one of the environments; False after an error in them"""
        return self._last_obs is not None

    def get_training_state(self) -> dict[str, Any]:
        """:return: The counters, networks, optimizers and hidden states; without the replay and the random generators"""
        return {
            "counters": {name: getattr(self, name) for name in COUNTERS},
            "acting": {name: getattr(self, name) for name in ACTING},
            "states": {"_last_state": self._last_state, "_next_state": self._next_state},
            "parameters": self.get_parameters(),
            "episodes": [list(self.ep_info_buffer or ()), list(self.ep_success_buffer or ())],
        }

    def set_training_state(self, state: dict[str, Any], knows_environments: bool) -> None:
        """
        Restore the state of a new agent. Its replay is allocated without rows.

        :param state: The result of :meth:`get_training_state`
        :param knows_environments: Whether the environments were restored, too; if False the next ``learn`` resets them
        """
        self.set_parameters(state["parameters"], exact_match=True, device=self.device)
        vars(self).update(state["counters"])
        vars(self).update(state["acting"])
        for name, parts in state["states"].items():
            setattr(self, name, None if parts is None else RecurrentState(*(part.to(self.device) for part in parts)))
        infos, successes = state["episodes"]
        self.ep_info_buffer = deque(infos, maxlen=self._stats_window_size)
        self.ep_success_buffer = deque(successes, maxlen=self._stats_window_size)
        self.replay_buffer = self.allocate_replay()
        if not knows_environments:
            self._last_obs = None

    def __getstate__(self) -> dict[str, Any]:
        """:return: The attributes of a copy or a pickled agent: all except for the logger, whose files belong to this agent"""
        return {**{name: value for name, value in vars(self).items() if name != "_logger"}, "_custom_logger": False}

    def _excluded_save_params(self) -> list[str]:
        # SB3 resets the environments of a loaded model, which begins new episodes with new hidden states
        acting = ["_last_state", "_next_state", "_sent_actions", "_collected_rollout"]
        runtime = ["rng", "torch_rng", "finite_guard", "training_states", "world_model_trainer", "_replay_buffer"]
        return [*super()._excluded_save_params(), *acting, *runtime]

    def _get_torch_save_params(self) -> tuple[list[str], list[str]]:
        state_dicts = ["policy", "policy.optimizer"]
        if self.policy.world_model is not None:
            state_dicts.append("policy.world_model_optimizer")
        if self.policy.encoder_optimizer is not None:
            state_dicts.append("policy.encoder_optimizer")
        return state_dicts, []
