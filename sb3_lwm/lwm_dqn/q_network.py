"""The recurrent dueling Q-network."""

from typing import Any

import torch as th
from gymnasium import spaces
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor, NatureCNN, create_mlp
from stable_baselines3.common.type_aliases import PyTorchObs
from torch import nn

from sb3_lwm.common.cnn import in_chunks
from sb3_lwm.common.gru import ResettableGRU
from sb3_lwm.common.observations import preprocess
from sb3_lwm.common.type_aliases import Observations, SequenceSamples, map_observations


class DuelingHead(nn.Module):
    """
    ``Q = V + Adv - mean_a(Adv)`` (Wang et al. 2016, eq. 9; LWM, section 5).

    :param input_size: The size of the hidden state
    :param hidden_size: The size of the layer in each stream
    :param n_actions: The number of actions, ``A``
    :param dueling: Whether the head has two streams; if False, a single stream computes Q itself
    """

    def __init__(self, input_size: int, hidden_size: int, n_actions: int, dueling: bool) -> None:
        super().__init__()
        self.advantage = nn.Sequential(
            nn.Linear(input_size, hidden_size), nn.ReLU(inplace=True), nn.Linear(hidden_size, n_actions, bias=not dueling)
        )
        self.value = None
        if dueling:
            self.value = nn.Sequential(nn.Linear(input_size, hidden_size), nn.ReLU(inplace=True), nn.Linear(hidden_size, 1))

    def forward(self, memories: th.Tensor) -> th.Tensor:
        """
        :param memories: The hidden states, (..., input_size) float
        :return: The Q-values, (..., A) float
        """
        advantages = self.advantage(memories)
        if self.value is None:
            return advantages
        return self.value(memories) + advantages - advantages.mean(dim=-1, keepdim=True)

    def greedy_actions(self, memories: th.Tensor) -> th.Tensor:
        """
        :param memories: The hidden states, (..., input_size) float
        :return: The greedy actions, (...) int64, which do not depend on the value stream
        """
        return self.advantage(memories).argmax(dim=-1)


class RecurrentQNetwork(BasePolicy):
    """
    Features of (observation, last action, intrinsic reward) -> layers -> GRU -> dueling head (LWM, section 5).

    :param observation_space: The observation space
    :param action_space: The action space, Discrete
    :param features_extractor: The features extractor
    :param features_dim: The size of the features
    :param net_arch: The sizes of the layers between the features and the GRU
    :param activation_fn: The activation function of these layers
    :param normalize_images: Whether to divide images by 255
    :param gru_hidden_size: The size of the hidden state, and of the layers of the head
    :param dueling: Whether the head is dueling
    :param intrinsic_reward_input: Whether the intrinsic reward is an input
    """

    features_extractor: BaseFeaturesExtractor

    def __init__(
        self,
        observation_space: spaces.Space,
        action_space: spaces.Discrete,
        features_extractor: BaseFeaturesExtractor,
        features_dim: int,
        net_arch: list[int],
        activation_fn: type[nn.Module],
        normalize_images: bool,
        gru_hidden_size: int,
        dueling: bool,
        intrinsic_reward_input: bool,
    ) -> None:
        super().__init__(
            observation_space, action_space, features_extractor=features_extractor, normalize_images=normalize_images
        )
        self.features_dim = features_dim
        self.net_arch = net_arch
        self.activation_fn = activation_fn
        self.n_actions = int(action_space.n)
        self.intrinsic_reward_input = intrinsic_reward_input
        inputs = features_dim + self.n_actions + int(intrinsic_reward_input)
        self.embedding = nn.Sequential(*create_mlp(inputs, -1, net_arch, activation_fn))
        self.memory = ResettableGRU(net_arch[-1] if net_arch else inputs, gru_hidden_size)
        self.head = DuelingHead(gru_hidden_size, gru_hidden_size, self.n_actions, dueling)

    def forward(self, obs: PyTorchObs) -> th.Tensor:
        """
        Compute Q-values for the first observations of episodes; :meth:`LWMPolicy.step` carries the hidden states along an
        episode.

        :param obs: The observations, (B, *observation shape)
        :return: The Q-values, (B, A) float; with value rescaling ``h(Q)``
        """
        starts = th.ones(1, len(next(iter(obs.values())) if isinstance(obs, dict) else obs), dtype=th.bool, device=self.device)
        hidden = th.zeros(starts.shape[1], self.memory.hidden_size, device=self.device)
        observations = map_observations(lambda part: part.unsqueeze(0), obs)
        # the last action and the reward are ignored at the start of an episode
        return self.head(self.remember(observations, th.zeros_like(starts, dtype=th.int64), starts.float(), starts, hidden)[0])

    def running_statistics(self) -> list[th.Tensor]:
        """:return: The running statistics of batch normalisation; empty without it"""
        return [part for name, part in self.named_buffers() if "running_" in name]

    def _predict(self, observation: PyTorchObs, deterministic: bool = True) -> th.Tensor:
        return self(observation).argmax(dim=-1)

    def _get_constructor_parameters(self) -> dict[str, Any]:
        ours = ("features_extractor", "features_dim", "net_arch", "activation_fn", "intrinsic_reward_input")
        sizes = {"gru_hidden_size": self.memory.hidden_size, "dueling": self.head.value is not None}
        return {**super()._get_constructor_parameters(), **sizes, **{name: getattr(self, name) for name in ours}}

    def remember(
        self,
        observations: Observations,
        last_actions: th.Tensor,
        intrinsic_rewards: th.Tensor,
        episode_starts: th.Tensor,
        hidden: th.Tensor,
    ) -> th.Tensor:
        """
        Run the GRU along a sequence. At the start of an episode the last action and the reward are ignored.

        :param observations: The observations, (T, B, *observation shape)
        :param last_actions: The actions before the observations, (T, B) int64
        :param intrinsic_rewards: The intrinsic rewards of these actions, (T, B) float
        :param episode_starts: Whether an episode begins with each observation, (T, B) bool
        :param hidden: The hidden states before the first step, (B, gru_hidden_size) float
        :return: The hidden states after each step, (T, B, gru_hidden_size) float
        """
        flat = map_observations(lambda part: part.flatten(0, 1), observations)
        features = self._extract_features(flat).unflatten(0, episode_starts.shape)
        extras = nn.functional.one_hot(last_actions, self.n_actions).to(features.dtype)
        if self.intrinsic_reward_input:
            extras = th.cat((extras, intrinsic_rewards.unsqueeze(-1)), dim=-1)
        extras = extras.masked_fill(episode_starts.unsqueeze(-1), 0.0)
        return self.memory(self.embedding(th.cat((features, extras), dim=-1)), hidden, episode_starts)

    def extract_features(self, obs: Observations, features_extractor: BaseFeaturesExtractor) -> th.Tensor:
        """
        Extract features. Unlike in SB3, discrete values that do not start at 0 are shifted.

        :param obs: The observations, (N, *observation shape)
        :param features_extractor: The features extractor
        :return: The features, (N, features_dim) float
        """
        return features_extractor(preprocess(obs, self.observation_space, self.normalize_images))

    def _extract_features(self, observations: Observations) -> th.Tensor:
        if isinstance(observations, th.Tensor) and isinstance(self.features_extractor, NatureCNN):
            return in_chunks(lambda images: self.extract_features(images, self.features_extractor), observations)
        return self.extract_features(observations, self.features_extractor)

    def q_values(self, samples: SequenceSamples, burn_in: int) -> th.Tensor:
        """
        Compute Q-values along sampled sequences. The burn-in only warms the hidden state up, without gradient (R2D2,
        section 3).

        :param samples: The (T, B) rows; without initial states the hidden state starts from zero
        :param burn_in: The number of rows without Q-values
        :return: The Q-values, (T - burn_in, B, A) float
        """
        states = samples.initial_states
        if states is None:
            hidden = samples.rewards.new_zeros(samples.rewards.shape[1], self.memory.hidden_size)
            first_actions = th.zeros_like(samples.actions[:1])
        else:
            hidden, first_actions = states.hidden, states.last_actions.unsqueeze(0)
        last_actions = th.cat((first_actions, samples.actions[:-1]))

        def memories(rows: slice, hidden: th.Tensor) -> th.Tensor:
            observations = map_observations(lambda part: part[rows], samples.observations)
            extras = (last_actions[rows], samples.intrinsic_rewards[rows], samples.episode_starts[rows])
            return self.remember(observations, *extras, hidden)

        if burn_in > 0:
            with th.no_grad():
                hidden = memories(slice(None, burn_in), hidden)[-1]
        return self.head(memories(slice(burn_in, None), hidden))
