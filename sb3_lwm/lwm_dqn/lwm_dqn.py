"""LWM-DQN: a recurrent dueling double DQN that learns from the environment's reward and from its own surprise."""

from contextlib import ExitStack
from typing import Any, ClassVar, TypeVar

import torch as th
from stable_baselines3.common.callbacks import BaseCallback, CallbackList, ConvertCallback
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.type_aliases import GymEnv, MaybeCallback, Schedule
from stable_baselines3.common.utils import LinearSchedule, get_parameters_by_name

from sb3_lwm.common.finite_guard import FiniteGuard
from sb3_lwm.lwm_dqn.callback import LatentWorldModelCallback
from sb3_lwm.lwm_dqn.policies import CnnPolicy, LWMPolicy, MlpPolicy, MultiInputPolicy
from sb3_lwm.lwm_dqn.resumable_dqn import ResumableDQN
from sb3_lwm.lwm_dqn.validation import check_arguments
from sb3_lwm.replay.sequence_buffer import SequenceReplayBuffer

SelfLWMDQN = TypeVar("SelfLWMDQN", bound="LWMDQN")


class LWMDQN(ResumableDQN):
    """
    Recurrent dueling double DQN with sequence replay and the intrinsic reward of a latent world model.

    Paper: Ermolov and Sebe, "Latent World Models For Intrinsically Motivated Exploration", NeurIPS 2020,
    https://arxiv.org/abs/2010.02302. The defaults are its settings for the partially observable labyrinth.

    :param policy: The policy model to use (MlpPolicy, CnnPolicy, MultiInputPolicy)
    :param env: The environment to learn from (if registered in Gym, can be str); VecNormalize is refused
    :param learning_rate: of the Q-network, can be a function of the current progress remaining (from 1 to 0)
    :param buffer_size: rows of the replay buffer, all environments together; it is allocated by the first ``learn``
    :param learning_starts: steps of uniformly random play before learning starts
    :param batch_size: sequences in each update
    :param tau: the soft update coefficient of the target network, at every update
    :param gamma: the discount factor
    :param train_freq: update every ``train_freq`` steps of the vector environment, or a tuple such as ``(2, "episode")``
    :param gradient_steps: updates after each rollout; -1: as many as steps of an environment in it
    :param replay_buffer_class: a :class:`SequenceReplayBuffer`; by default chosen by ``prioritized_replay``
    :param replay_buffer_kwargs: Keyword arguments to pass to the replay buffer on creation.
    :param n_steps: rewards before the bootstrap of the n-step return
    :param burn_in: rows that warm the memory up before the learned ones, without gradient
    :param unroll: rows of a sequence whose Q-values are learned
    :param double_q: the online network chooses the bootstrap's action; if False the target network does
    :param dueling: whether the Q-network has a dueling head
    :param value_rescaling: learn ``h(Q)`` instead of ``Q``
    :param prioritized_replay: draw whole sequences by their TD error, with the memory stored at their start; if False draw
        any window uniformly, memory from zero
    :param priority_exponent: of the priorities in the draw
    :param importance_exponent: of the importance weights; 0 switches them off
    :param priority_max_weight: weight of the largest TD error of a sequence in its priority, against their mean
    :param exploration_fraction: fraction of the training over which the exploration rate is reduced
    :param exploration_initial_eps: initial value of random action probability
    :param exploration_final_eps: final value of random action probability
    :param exploration_eps_base: if given, environment ``i`` of ``E`` explores with
        ``exploration_eps_base^(1 + exploration_eps_alpha i / (E - 1))`` for the whole training, instead of the schedule
    :param exploration_eps_alpha: see ``exploration_eps_base``
    :param evaluation_eps: random action probability of ``predict(deterministic=False)``
    :param max_grad_norm: The maximum value for the Q-network's gradient clipping; None for none
    :param use_world_model: if False, a plain recurrent DQN: no world model, no intrinsic reward
    :param intrinsic_reward_scale: of the normalised prediction error
    :param intrinsic_reward_input: whether the Q-network is told the intrinsic reward of each step, beside the last action; if
        False it is paid only
    :param intrinsic_reward_clip: bound of the normalised prediction error; None for none
    :param intrinsic_reward_momentum: of the running mean and standard deviation of the prediction error
    :param world_model_learning_rate: of the world model
    :param pretraining_updates: updates of the world model at the end of the warm-up
    :param pretraining_batch_size: windows in each of them
    :param pretraining_sequence_length: rows of each window
    :param encoder_objective: what the encoder of images learns from: ``"w-mse"``, ``"inverse-dynamics"``, ``"cpc"``, or
        ``"random"``, which leaves it untrained
    :param encoder_pretraining_updates: updates of the encoder of images before those of the world model
    :param storage_device: where the replay's observations lie: ``"cpu"`` for the host's memory, or a GPU
    :param compression: of the replay's observations in the host's memory, lossless; None for none
    :param step_ahead: send the next actions to the environments before an update instead of after it, so that they step while
        it runs; for :class:`~sb3_lwm.envs.AtariVecEnv`
    :param mixed_precision: whether convolutions run in bfloat16; for GPUs
    :param compile_networks: whether ``torch.compile`` makes kernels for the convolutions; for GPUs
    :param stats_window_size: Window size for the rollout logging, specifying the number of episodes to average
        the reported success rate, mean episode length, and mean reward over
    :param tensorboard_log: the log location for tensorboard (if None, no logging)
    :param policy_kwargs: additional arguments to be passed to the policy on creation, see :class:`LWMPolicy`
    :param verbose: Verbosity level: 0 for no output, 1 for info messages (such as device or wrappers used), 2 for
        debug messages
    :param seed: Seed for the pseudo random generators
    :param device: Device (cpu, cuda, ...) on which the code should be run.
        Setting it to auto, the code will be run on the GPU if possible.
    :param _init_setup_model: Whether or not to build the network at the creation of the instance
    :raises ValueError: for a value that cannot work, with its name and a remedy
    """

    policy_aliases: ClassVar[dict[str, type[BasePolicy]]] = {
        "MlpPolicy": MlpPolicy,
        "CnnPolicy": CnnPolicy,
        "MultiInputPolicy": MultiInputPolicy,
    }

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
        n_steps: int = 1,
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
        intrinsic_reward_scale: float = 1.0,
        intrinsic_reward_input: bool = True,
        intrinsic_reward_clip: float | None = None,
        intrinsic_reward_momentum: float = 0.99,
        world_model_learning_rate: float = 5e-4,
        pretraining_updates: int = 1000,
        pretraining_batch_size: int = 64,
        pretraining_sequence_length: int = 100,
        encoder_objective: str = "w-mse",
        encoder_pretraining_updates: int = 1000,
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
            n_steps=n_steps,
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
        self._new_priorities, self._listeners, self._ends_of_learning = [], [], ExitStack()
        self.finite_guard = FiniteGuard(self.describe_position)
        self._world_model_callback: LatentWorldModelCallback | None = None
        if _init_setup_model:
            self._setup_model()

    def _setup_model(self) -> None:
        check_arguments(self)
        self._setup_lr_schedule()
        self.set_random_seed(self.seed)
        # The replay buffer waits for learn(): a model that is loaded to act needs none
        self.policy = self.policy_class(  # type: ignore[assignment]
            self.observation_space, self.action_space, self.lr_schedule, **self.policy_arguments()
        ).to(self.device)
        self._create_aliases()
        # Copy running stats, see GH issue #996 of SB3
        self.batch_norm_stats = get_parameters_by_name(self.q_net, ["running_"])
        self.batch_norm_stats_target = get_parameters_by_name(self.q_net_target, ["running_"])
        self._convert_train_freq()
        self.exploration_schedule = LinearSchedule(
            self.exploration_initial_eps, self.exploration_final_eps, self.exploration_fraction
        )

    def policy_arguments(self) -> dict[str, Any]:
        """:return: what the policy is made with: ``policy_kwargs`` and those of our own arguments that concern it"""
        world_model_kwargs = self.policy_kwargs.get("world_model_kwargs", {})
        if self.use_world_model and world_model_kwargs is not None:
            world_model_kwargs = {
                "intrinsic_reward_scale": self.intrinsic_reward_scale,
                "intrinsic_reward_clip": self.intrinsic_reward_clip,
                "intrinsic_reward_momentum": self.intrinsic_reward_momentum,
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

    def _init_callback(self, callback: MaybeCallback, progress_bar: bool = False) -> BaseCallback:
        self._world_model_callback = None
        if self.policy.world_model is not None:
            self._world_model_callback = LatentWorldModelCallback(
                self.pretraining_updates,
                self.pretraining_batch_size,
                self.pretraining_sequence_length,
                self.encoder_pretraining_updates,
                verbose=self.verbose,
            )
            others = callback if isinstance(callback, list) else [callback]
            others = [other if isinstance(other, BaseCallback) else ConvertCallback(other) for other in others if other]
            callback = CallbackList([self._world_model_callback, *others])
        callback = super()._init_callback(callback, progress_bar)
        self.restore_learning(callback)
        return callback

    def learn(
        self: SelfLWMDQN,
        total_timesteps: int,
        callback: MaybeCallback = None,
        log_interval: int = 4,
        tb_log_name: str = "LWMDQN",
        reset_num_timesteps: bool = True,
        progress_bar: bool = False,
    ) -> SelfLWMDQN:
        """See :meth:`stable_baselines3.DQN.learn`; the callback that teaches the world model is added to yours."""
        with self._ends_of_learning:
            return super().learn(total_timesteps, callback, log_interval, tb_log_name, reset_num_timesteps, progress_bar)

    def _excluded_save_params(self) -> list[str]:
        return [
            *super()._excluded_save_params(),
            "_world_model_callback",
            "_new_priorities",
            "batch_norm_stats",
            "batch_norm_stats_target",
        ]

    def _get_torch_save_params(self) -> tuple[list[str], list[str]]:
        state_dicts = ["policy", "policy.optimizer"]
        if self.policy.world_model is not None:
            state_dicts.append("policy.world_model_optimizer")
            if self.policy.world_model.encoder_objectives():
                state_dicts.append("policy.encoder_optimizer")
        return state_dicts, []
