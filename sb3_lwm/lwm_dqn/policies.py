"""The policy: the recurrent dueling Q-network, its target network and the world model, with one ``predict`` method."""

import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch as th
from gymnasium import spaces
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor, FlattenExtractor, NatureCNN
from stable_baselines3.common.type_aliases import PyTorchObs, Schedule
from stable_baselines3.common.utils import polyak_update
from stable_baselines3.dqn.policies import DQNPolicy
from torch import nn

from sb3_lwm.common.cnn import DictExtractor, GridCNN, ImageCNN, cnn_for, is_small
from sb3_lwm.common.exploration import agent_generator, explore
from sb3_lwm.common.observations import check_observation_space, is_image
from sb3_lwm.common.threads import one_thread_for_small_networks
from sb3_lwm.common.type_aliases import RecurrentState, map_observations
from sb3_lwm.lwm_dqn.q_network import RecurrentQNetwork
from sb3_lwm.world_model import LatentWorldModel
from sb3_lwm.world_model.encoders import ImageEncoder, LatentEncoder, VectorEncoder

# Colours and depth: a last dimension of at most this size that is smaller than the others may be that of the channels
MOST_CHANNELS = 4


class LWMPolicy(DQNPolicy):
    """
    Recurrent Q-networks and the latent world model of LWM.

    :param observation_space: The observation space
    :param action_space: The action space, Discrete
    :param lr_schedule: The learning rate schedule of the Q-network
    :param net_arch: The sizes of the layers between the features and the GRU, by default ``[32]``; empty after a CNN of images
    :param activation_fn: The activation function
    :param features_extractor_class: The features extractor to use
    :param features_extractor_kwargs: Keyword arguments to pass to the features extractor
    :param normalize_images: Whether to normalize images or not, dividing by 255.0 (True by default)
    :param optimizer_class: The optimizer of the Q-network and of the world model, ``th.optim.Adam`` by default
    :param optimizer_kwargs: Additional keyword arguments, excluding the learning rate; ``eps=1e-3`` by default for the
        Q-network (LWM, appendix), the optimizer's own for the world model
    :param gru_hidden_size: The size of the Q-network's hidden state, by default 128; 512 after the CNN of images of 36 pixels
        or more
    :param dueling: Whether the Q-network is dueling
    :param intrinsic_reward_input: Whether the intrinsic reward of each step is an input of the Q-network
    :param world_model_kwargs: Keyword arguments of :class:`~sb3_lwm.world_model.LatentWorldModel`; None for no world model.
        By default, images that the features extractor flattens are not embedded by convolutions, and ``normalize_images`` is
        that of the policy
    :param world_model_learning_rate: The learning rate of the world model
    :param evaluation_eps: The probability of a random action in ``predict(deterministic=False)``
    :param mixed_precision: Whether the convolutions of :class:`~sb3_lwm.common.cnn.ImageCNN` run in bfloat16
    :param compile_networks: Whether ``torch.compile`` compiles these convolutions
    :raises ValueError: If the networks cannot be built for the observations
    """

    q_net: RecurrentQNetwork  # type: ignore[assignment]
    q_net_target: RecurrentQNetwork  # type: ignore[assignment]
    action_space: spaces.Discrete
    world_model: LatentWorldModel | None
    _is_built = False

    def __init__(
        self,
        observation_space: spaces.Space,
        action_space: spaces.Discrete,
        lr_schedule: Schedule,
        net_arch: list[int] | None = None,
        activation_fn: type[nn.Module] = nn.ReLU,
        features_extractor_class: type[BaseFeaturesExtractor] = FlattenExtractor,
        features_extractor_kwargs: dict[str, Any] | None = None,
        normalize_images: bool = True,
        optimizer_class: type[th.optim.Optimizer] = th.optim.Adam,
        optimizer_kwargs: dict[str, Any] | None = None,
        gru_hidden_size: int | None = None,
        *,
        dueling: bool,
        intrinsic_reward_input: bool,
        world_model_kwargs: Mapping[str, Any] | None,
        world_model_learning_rate: float,
        evaluation_eps: float,
        mixed_precision: bool,
        compile_networks: bool,
    ) -> None:
        if net_arch is not None and not all(isinstance(size, int) for size in net_arch):
            raise ValueError(
                f"net_arch={net_arch!r}: it must be a list of layer sizes, such as [64, 64]. There is one Q-network, no actor "
                "and critic; the sizes of the world model are in world_model_kwargs."
            )
        check_observation_space(observation_space)
        self.gru_hidden_size = gru_hidden_size or (512 if issubclass(features_extractor_class, NatureCNN) else 128)
        self.dueling = dueling
        self.intrinsic_reward_input = intrinsic_reward_input
        self.world_model_kwargs = None if world_model_kwargs is None else dict(world_model_kwargs)
        self.world_model_learning_rate = world_model_learning_rate
        self.evaluation_eps = evaluation_eps
        self.mixed_precision = mixed_precision
        self.compile_networks = compile_networks
        # an agent replaces it with its own generator
        self.rng = agent_generator(None)
        if optimizer_kwargs is None:
            optimizer_kwargs = {"eps": 1e-3} if issubclass(optimizer_class, th.optim.Adam) else {}
        if net_arch is None:
            net_arch = [] if issubclass(features_extractor_class, NatureCNN | GridCNN) else [32]
        if not normalize_images and issubclass(features_extractor_class, GridCNN):
            # as SB3 does for its own classes
            features_extractor_kwargs = {**(features_extractor_kwargs or {}), "normalized_image": True}
        super().__init__(
            observation_space,
            action_space,
            lr_schedule,
            net_arch,
            activation_fn,
            features_extractor_class,
            features_extractor_kwargs,
            normalize_images,
            optimizer_class,
            optimizer_kwargs,
        )

    def _build(self, lr_schedule: Schedule) -> None:
        super()._build(lr_schedule)
        # only convolutions gain from several threads
        self.has_convolutions = any(isinstance(part, nn.Conv2d) for part in self.modules())
        self.world_model = None
        self.encoder_optimizer: th.optim.Optimizer | None = None
        if self.world_model_kwargs is not None:
            images = {
                "flatten_images": issubclass(self.features_extractor_class, FlattenExtractor),
                "normalize_images": self.normalize_images,
            }
            self.world_model = LatentWorldModel(
                self.observation_space, self.action_space, **{**images, **self.world_model_kwargs}
            )
            _warn_of_images(self.world_model.encoder)
            self.world_model_optimizer = self.optimizer_class(
                self.world_model.predictor.parameters(),
                lr=self.world_model_learning_rate,  # type: ignore[call-arg]
            )
            if self.world_model.encoder_objectives():
                self.encoder_optimizer = self.optimizer_class(
                    [*self.world_model.encoder.parameters(), *self.world_model.objectives.parameters()],
                    lr=self.world_model_learning_rate,  # type: ignore[call-arg]
                )
        # listed once, because finding the parameters takes longer than updating them
        self._target_parameters: list[th.Tensor] = list(self.q_net_target.parameters())
        self._parameters_to_follow: list[th.Tensor] = list(self.q_net.parameters())
        self._is_built = True
        self._has_running_statistics = bool(self.q_net.running_statistics())
        for module in self.modules():
            if isinstance(module, ImageCNN):
                module.mixed_precision = self.mixed_precision
                if self.compile_networks:
                    module.compile()

    @property
    def device(self) -> th.device:
        """:return: The device of the networks"""
        # SB3's property searches all modules for a parameter, several times at every step
        return self._target_parameters[0].device if self._is_built else super().device

    def make_q_net(self) -> RecurrentQNetwork:  # type: ignore[override]
        """:return: A new Q-network"""
        net_args = self._update_features_extractor(self.net_args, features_extractor=None)
        ours = {name: getattr(self, name) for name in ("gru_hidden_size", "dueling", "intrinsic_reward_input")}
        return RecurrentQNetwork(**net_args, **ours).to(self.device)

    @th.no_grad()
    def move_target(self, tau: float) -> None:
        """
        Update the target network towards the Q-network, and copy the Q-network's running statistics to it.

        :param tau: The soft update coefficient
        """
        th._foreach_lerp_(self._target_parameters, self._parameters_to_follow, tau)
        if self._has_running_statistics:
            polyak_update(self.q_net.running_statistics(), self.q_net_target.running_statistics(), 1.0)

    def initial_state(self, n_envs: int) -> RecurrentState:
        """
        :param n_envs: The number of environments, ``B``
        :return: The hidden states before the first step of an episode, tensors of zeros on the policy's device
        """
        model = self.world_model
        sizes = (self.gru_hidden_size, *((0, 0) if model is None else (model.hidden_size, model.latent_size)))
        hidden, model_hidden, predicted_latents = (th.zeros(n_envs, size, device=self.device) for size in sizes)
        last_actions = th.zeros(n_envs, dtype=th.int64, device=self.device)
        return RecurrentState(hidden, model_hidden, predicted_latents, last_actions)

    @th.no_grad()
    def step(
        self,
        observations: PyTorchObs,
        state: RecurrentState,
        episode_starts: th.Tensor,
        actions: th.Tensor | None = None,
    ) -> tuple[th.Tensor, RecurrentState]:
        """
        Compute one step of all environments in PyTorch alone, to read Q-values along an episode, to trace, and to export. It
        is the same computation as in :meth:`act` and :meth:`predict`; the caller must set the evaluation mode.

        :param observations: The observations, ``(B, *observation shape)``
        :param state: The hidden states before the observations, :meth:`initial_state` at first
        :param episode_starts: Whether an episode begins with each observation, (B,) bool
        :param actions: The actions to take, (B,) int64; by default the greedy ones
        :return: The Q-values, (B, A) float, which with value rescaling are ``h(Q)``, see
            :func:`~sb3_lwm.lwm_dqn.td_learning.unrescale_value`; and the hidden states after the step, whose
            ``last_actions`` are the actions
        """
        memories, latents = self._observe(observations, state, episode_starts)
        if actions is None:
            actions = self.q_net.head.greedy_actions(memories)
        return self.q_net.head(memories), self._advance(state, memories, latents, episode_starts, actions)

    def states_along(self, observations: Any, actions: np.ndarray) -> list[RecurrentState]:
        """
        :param observations: The observations of one episode, a ``(T + 1, *observation shape)`` array or a dictionary of arrays
        :param actions: The actions of the episode, (T,) int64
        :return: The hidden states before each of the T + 1 observations
        """
        self.set_training_mode(False)
        rows = self.obs_to_tensor(observations)[0]
        states = [self.initial_state(1)]
        for row, action in enumerate(th.as_tensor(actions, device=self.device).split(1)):
            observation = map_observations(lambda part, row=row: part[row : row + 1], rows)
            starts = th.full((1,), row == 0, device=self.device)
            states.append(self.step(observation, states[-1], starts, action)[1])
        return states

    @th.inference_mode()
    def act(
        self,
        observations: PyTorchObs,
        state: RecurrentState,
        episode_starts: th.Tensor,
        epsilons: np.ndarray | float = 0.0,
    ) -> tuple[np.ndarray, RecurrentState]:
        """
        Choose the actions of all environments, in training as in evaluation.

        :param observations: The observations, ``(B, *observation shape)``
        :param state: The hidden states before the observations
        :param episode_starts: Whether an episode begins with each observation, (B,) bool
        :param epsilons: The probability of a uniformly random action, (B,) float or one for all
        :return: The actions in the action space, (B,) int64, and the hidden states after them, whose ``last_actions`` count
            from 0
        """
        memories, latents = self._observe(observations, state, episode_starts)
        greedy_actions = self.q_net.head.greedy_actions(memories).cpu().numpy()
        actions = explore(greedy_actions, epsilons, self.q_net.n_actions, self.rng)
        # a copy: the caller may write into the actions
        last_actions = th.tensor(actions, device=self.device)
        state = self._advance(state, memories, latents, episode_starts, last_actions)
        return actions + int(self.action_space.start), state

    def _observe(
        self, observations: PyTorchObs, state: RecurrentState, episode_starts: th.Tensor
    ) -> tuple[th.Tensor, th.Tensor]:
        """Return the Q-network's hidden states after (B, ...) observations, and the latents of the observations."""
        starts = episode_starts.unsqueeze(0)
        latents, intrinsic_rewards = state.predicted_latents, th.zeros_like(starts, dtype=th.float32)
        if self.world_model is not None:
            latents, rewards = self.world_model.observe(observations, state.predicted_latents, episode_starts)
            intrinsic_rewards = rewards.unsqueeze(0)
        memories = self.q_net.remember(
            map_observations(lambda part: part.unsqueeze(0), observations),
            state.last_actions.unsqueeze(0),
            intrinsic_rewards,
            starts,
            state.hidden,
        )
        return memories[0], latents

    def _advance(
        self,
        state: RecurrentState,
        memories: th.Tensor,
        latents: th.Tensor,
        episode_starts: th.Tensor,
        actions: th.Tensor,
    ) -> RecurrentState:
        """Return the hidden states after (B,) actions."""
        if self.world_model is None:
            return RecurrentState(memories, state.model_hidden, state.predicted_latents, actions)
        predictions, model_hidden = self.world_model.expect(
            latents.unsqueeze(0), actions.unsqueeze(0), state.model_hidden, episode_starts.unsqueeze(0)
        )
        return RecurrentState(memories, model_hidden, predictions[0], actions)

    def predict(  # type: ignore[override]
        self,
        observation: np.ndarray | dict[str, np.ndarray],
        state: RecurrentState | None = None,
        episode_start: np.ndarray | None = None,
        deterministic: bool = False,
    ) -> tuple[np.ndarray, RecurrentState]:
        """
        Get the action for an observation and the hidden states of the episode so far, as in RecurrentPPO.

        :param observation: The observation of one environment or of several
        :param state: The hidden states that the last call returned; None at the start
        :param episode_start: Whether an episode begins with each observation, (B,) bool; by default False
        :param deterministic: Whether all actions are greedy; if False, ``evaluation_eps`` of them are random
        :return: The action, an array of shape (), or (B,) actions; and the hidden states for the next call
        :raises ValueError: If the hidden states are those of another number of environments
        """
        self.set_training_mode(False)
        # the same test as SB3's, since an observation may be a tuple of numbers
        if isinstance(observation, tuple) and len(observation) == 2 and isinstance(observation[1], dict):
            raise ValueError(
                "predict() was given a tuple, not an observation: Gymnasium's reset() returns an observation and a "
                "dictionary, `observation, info = env.reset()`."
            )
        _check_frames(self.observation_space, observation)
        if isinstance(self.observation_space, spaces.Dict) and isinstance(observation, dict):
            # keys that the space does not have are ignored
            observation = {key: observation[key] for key in self.observation_space.spaces}
        observations, is_vectorized = self.obs_to_tensor(observation)
        n_envs = len(next(iter(observations.values())) if isinstance(observations, dict) else observations)
        if state is None:
            tensors = self.initial_state(n_envs)
            episode_start = np.ones(n_envs, dtype=bool)
        else:
            tensors = RecurrentState(*(th.as_tensor(part, device=self.device) for part in state))
            episode_start = np.zeros(n_envs, dtype=bool) if episode_start is None else np.asarray(episode_start, dtype=bool)
        if len(tensors.hidden) != n_envs:
            raise ValueError(
                f"The state has {len(tensors.hidden)} environments, the observation {n_envs}: "
                "pass state=None to start new episodes."
            )
        if episode_start.size != n_envs:
            raise ValueError(f"episode_start has {episode_start.size} environments, the observation {n_envs}.")
        starts = th.as_tensor(episode_start.reshape(n_envs), device=self.device)
        with one_thread_for_small_networks(self.device.type == "cpu" and not self.has_convolutions):
            actions, tensors = self.act(observations, tensors, starts, 0.0 if deterministic else self.evaluation_eps)
        arrays = RecurrentState(*(part.cpu().numpy() for part in tensors))
        return (actions if is_vectorized else actions.squeeze(axis=0)), arrays

    def _predict(self, observation: PyTorchObs, deterministic: bool = True) -> th.Tensor:
        """Return greedy actions for first observations of episodes; ``predict`` and ``act`` carry the hidden states."""
        parts = list(observation.values()) if isinstance(observation, dict) else [observation]
        n_envs = parts[0].shape[0]
        starts = th.ones(n_envs, dtype=th.bool, device=self.device)
        last_actions = self.step(observation, self.initial_state(n_envs), starts)[1].last_actions
        return last_actions + int(self.action_space.start)

    def set_training_mode(self, mode: bool) -> None:
        """
        :param mode: True for training, False for evaluation; the target network is always in evaluation mode
        """
        if self.training != mode or self.q_net.training != mode:
            super().set_training_mode(mode)
        if self.world_model is not None and self.world_model.training != mode:
            self.world_model.train(mode)

    def _get_constructor_parameters(self) -> dict[str, Any]:
        return {
            **super()._get_constructor_parameters(),
            "gru_hidden_size": self.gru_hidden_size,
            "dueling": self.dueling,
            "intrinsic_reward_input": self.intrinsic_reward_input,
            "world_model_kwargs": self.world_model_kwargs,
            "world_model_learning_rate": self.world_model_learning_rate,
            "evaluation_eps": self.evaluation_eps,
            "mixed_precision": self.mixed_precision,
            "compile_networks": self.compile_networks,
        }


class PolicyStep(nn.Module):
    """
    Module that computes :meth:`LWMPolicy.step` with plain tensors, to be traced or exported. It shares the policy's weights.

    :param policy: The policy, which is put into evaluation mode
    """

    def __init__(self, policy: LWMPolicy) -> None:
        super().__init__()
        self.policy = policy
        self.eval()

    def forward(self, observations: PyTorchObs, episode_starts: th.Tensor, *state: th.Tensor) -> tuple[th.Tensor, ...]:
        """
        :param observations: The observations, ``(B, *observation shape)``
        :param episode_starts: Whether an episode begins with each observation, (B,) bool
        :param state: The four parts of the hidden states before the observations, :meth:`LWMPolicy.initial_state` at first
        :return: The Q-values, (B, A) float, and the four parts of the hidden states after the greedy step, whose last part
            are the greedy actions, (B,) int64
        """
        q_values, next_state = self.policy.step(observations, RecurrentState(*state), episode_starts)
        return q_values, *next_state


def _warn_of_images(encoder: LatentEncoder) -> None:
    """Warn if the world model predicts every pixel of an image, or if the channels of images seem to come last."""
    for part in encoder.parts().values():
        space = part.observation_space
        if isinstance(part, VectorEncoder) and is_image(space) and not is_small(space):
            warnings.warn(
                f"Images of shape {space.shape} are flattened, so that the world model predicts {part.latent_size} numbers: "
                "CnnPolicy embeds them.",
                stacklevel=2,
            )
        shape = space.shape or ()
        if isinstance(part, ImageEncoder) and not is_image(space) and shape[2] <= MOST_CHANNELS < min(shape[:2]):
            warnings.warn(
                f"Images of shape {shape} are read as {shape[0]} channels of {shape[1]} x {shape[2]}: SB3 transposes "
                "unsigned bytes only. If their channels come last, use gymnasium.wrappers.TransformObservation.",
                stacklevel=2,
            )


def _check_frames(space: spaces.Space, observation: Any) -> None:
    """Check the shape and dtype of images; SB3 checks only the shape, and only after it has transposed them."""
    if not isinstance(space, spaces.Box) or not is_image(space):
        return
    frames = np.asarray(observation)
    if frames.ndim - len(space.shape) not in (0, 1):
        raise ValueError(f"Unexpected observation shape {frames.shape}: use {space.shape}, or (n_envs, *{space.shape}).")
    if frames.dtype.kind not in "iu":
        raise ValueError(f"The observation is {frames.dtype}, the space {space} is uint8: give unscaled frames, 0 to 255.")


MlpPolicy = LWMPolicy


class CnnPolicy(LWMPolicy):
    """
    :class:`LWMPolicy` for images. Its default features extractor is ``ImageCNN`` (SB3's ``NatureCNN``), or ``GridCNN`` for
    images under 36 pixels.
    """

    def __init__(self, observation_space: spaces.Space, *args: Any, **kwargs: Any) -> None:
        kwargs = {"features_extractor_class": cnn_for(observation_space), **kwargs}
        super().__init__(observation_space, *args, **kwargs)


class MultiInputPolicy(LWMPolicy):
    """
    :class:`LWMPolicy` for Dict observations. Its default features extractor is ``DictExtractor``, which is SB3's
    ``CombinedExtractor`` for images of any size and keys of any name.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **{"features_extractor_class": DictExtractor, **kwargs})
