"""The latent world model: what it sees, what it expects, and how surprised it is."""

from collections.abc import Mapping
from typing import Any

import torch as th
from gymnasium import spaces
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from torch import nn

from sb3_lwm.common.type_aliases import Observations, SequenceSamples, Transitions, map_observations
from sb3_lwm.world_model.actions import ActionEncoder
from sb3_lwm.world_model.encoders import LatentEncoder
from sb3_lwm.world_model.normalizer import IntrinsicRewardNormalizer
from sb3_lwm.world_model.objectives import EncoderObjective, make_objective
from sb3_lwm.world_model.predictor import LatentPredictor, prediction_errors

# LWM, section 5: the predictor of the labyrinth, and the one of Atari, whose input layer has no activation
VECTOR_PREDICTOR: Mapping[str, Any] = {"input_size": 32, "gru_hidden_size": 128, "head_size": 128}
IMAGE_PREDICTOR: Mapping[str, Any] = {
    "input_size": 128,
    "input_activation_fn": nn.Identity,
    "gru_hidden_size": 256,
    "head_size": 256,
}


class LatentWorldModel(nn.Module):
    """
    Encoder, recurrent predictor of the next latent, and the normaliser that turns its error into an intrinsic reward
    (LWM, section 4).

    :param observation_space: Box, Discrete, MultiDiscrete, MultiBinary, or a Dict of these; images channels-first
    :param action_space: Discrete, MultiDiscrete, MultiBinary or Box
    :param intrinsic_reward_scale: The factor of the normalised error
    :param intrinsic_reward_clip: The bound of the normalised error, in standard deviations; None for none
    :param intrinsic_reward_momentum: The momentum of the error's running mean and standard deviation
    :param encoder_objective: The objective that the encoder of images is trained with: ``"w-mse"``,
        ``"inverse-dynamics"``, ``"cpc"``, or ``"random"``, which leaves it untrained
    :param intrinsic_reward_normalizer: The average of the error's standard deviation, ``"moving"`` (LWM) or ``"long-run"``,
        see :class:`IntrinsicRewardNormalizer`
    :param image_latent_size: The size of an image's embedding
    :param predictor_kwargs: The keyword arguments of the :class:`LatentPredictor`, by default the sizes of the paper
    :param encoder_objective_kwargs: The keyword arguments of the objective, such as ``batch_size`` and ``sequence_length``
    :param encoder_class: The class of the encoder of images, an SB3 features extractor; by default the convolutions that suit
        their size. If it is given, every Box of three dimensions is an image.
    :param encoder_kwargs: The keyword arguments of the encoder of images
    :param flatten_images: Whether images are vectors too; the policy of an agent sets it to what its features extractor does
    :param normalize_images: Whether pixels are divided by 255; if False every Box of three dimensions is an image
    :raises ValueError: If there is no such objective, or an ``encoder_class`` without images
    """

    n_updates: th.Tensor
    n_encoder_updates: th.Tensor

    def __init__(
        self,
        observation_space: spaces.Space,
        action_space: spaces.Space,
        intrinsic_reward_scale: float,
        intrinsic_reward_clip: float | None,
        intrinsic_reward_momentum: float,
        encoder_objective: str,
        intrinsic_reward_normalizer: str = "moving",
        image_latent_size: int = 32,
        predictor_kwargs: Mapping[str, Any] | None = None,
        encoder_objective_kwargs: Mapping[str, Any] | None = None,
        encoder_class: type[BaseFeaturesExtractor] | None = None,
        encoder_kwargs: Mapping[str, Any] | None = None,
        flatten_images: bool = False,
        normalize_images: bool = True,
    ) -> None:
        super().__init__()
        self.encoder = LatentEncoder(
            observation_space, image_latent_size, flatten_images, normalize_images, encoder_class, encoder_kwargs
        )
        actions = ActionEncoder(action_space)
        objective_kwargs = dict(encoder_objective_kwargs or {})
        parts, names = self.encoder.parts(), self.encoder.names
        self.objectives = nn.ModuleDict(
            {
                names[key]: make_objective(encoder_objective, parts[key].latent_size, actions, **objective_kwargs)
                for key in self.encoder.image_keys
            }
        )
        defaults = IMAGE_PREDICTOR if self.encoder.image_keys else VECTOR_PREDICTOR
        self.predictor = LatentPredictor(
            self.encoder.latent_size,
            actions,
            self.encoder.binary,
            **{**defaults, **(predictor_kwargs or {})},
        )
        self.normalizer = IntrinsicRewardNormalizer(
            intrinsic_reward_scale, intrinsic_reward_clip, intrinsic_reward_momentum, intrinsic_reward_normalizer
        )
        # pretraining included; buffers, so that a loaded model is not pretrained again, and float, as SB3's other weights are
        self.register_buffer("n_updates", th.zeros(()))
        self.register_buffer("n_encoder_updates", th.zeros(()))

    @property
    def latent_size(self) -> int:
        """:return: size of a latent, ``Z``"""
        return self.encoder.latent_size

    @property
    def hidden_size(self) -> int:
        """:return: size of the predictor's memory"""
        return self.predictor.memory.hidden_size

    def encoder_objectives(self) -> dict[str, EncoderObjective]:
        """:return: what the encoder of each image learns from, by its key; empty if there are no images or they stay random"""
        keys = {name: key for key, name in self.encoder.names.items()}
        parts = {keys[name]: part for name, part in self.objectives.items() if isinstance(part, EncoderObjective)}
        return {key: part for key, part in parts.items() if part.trains_encoder}

    def encode(self, observations: Observations) -> th.Tensor:
        """
        The encoder gets no gradient from the predictor (LWM, section 4.2).

        :param observations: ``(T, B, *observation shape)``
        :return: (T, B, Z) float32
        """
        parts = observations if isinstance(observations, dict) else {"": observations}
        shape = next(iter(parts.values())).shape[:2]
        with th.no_grad():
            latents = self.encoder(map_observations(lambda part: part.flatten(0, 1), observations))
        return latents.unflatten(0, shape)

    def observe(
        self, observations: Observations, predicted_latents: th.Tensor, episode_starts: th.Tensor
    ) -> tuple[th.Tensor, th.Tensor]:
        """
        Compare one observation with what was expected.

        :param observations: ``(B, *observation shape)``
        :param predicted_latents: (B, Z) float, from the step before
        :param episode_starts: (B,) bool, nothing was expected here
        :return: (B, Z) float latents, (B,) float intrinsic rewards
        """
        latents = self.encoder(observations)
        return latents, self.intrinsic_rewards(prediction_errors(latents, predicted_latents), episode_starts)

    def expect(
        self, latents: th.Tensor, actions: th.Tensor, hidden: th.Tensor, resets: th.Tensor
    ) -> tuple[th.Tensor, th.Tensor]:
        """
        Predict the next latents along a sequence; see :meth:`LatentPredictor.forward`.

        :param latents: (T, B, Z) float
        :param actions: ``(T, B, *action shape)``
        :param hidden: (B, hidden_size) float
        :param resets: (T, B) bool
        :return: (T, B, Z) float, (B, hidden_size) float
        """
        outputs, hidden = self.predictor(latents, actions, hidden, resets)
        return self.predictor.expected_latents(outputs), hidden

    def sequence_errors(self, samples: SequenceSamples) -> tuple[th.Tensor, th.Tensor]:
        """
        Compare the observations of sequences with the predictions, as :meth:`observe` and :meth:`expect` do step by step.

        :param samples: (T, B) rows; without initial states the hidden state and the first prediction are zero
        :return: (T, B) float, prediction error of each row's observation, and (T - 1, B) float with gradient, the training
            loss of the predictor at each row after the first; both are without meaning at episode starts
        """
        latents = self.encode(samples.observations)
        states = samples.initial_states
        hidden = self.initial_hidden(latents.shape[1]) if states is None else states.model_hidden
        first_prediction = th.zeros_like(latents[0]) if states is None else states.predicted_latents
        steps = Transitions(latents[:-1], samples.actions[:-1], samples.episode_starts[:-1], latents[1:])
        errors, losses, _ = self.transition_errors(steps, hidden)
        first_errors = prediction_errors(latents[0], first_prediction)
        return th.cat((first_errors.unsqueeze(0), errors)), losses

    def transition_errors(self, transitions: Transitions, hidden: th.Tensor) -> tuple[th.Tensor, th.Tensor, th.Tensor]:
        """
        Compare what each transition led to with the prediction.

        :param transitions: (T, B) transitions, consecutive in time
        :param hidden: (B, hidden_size) float, hidden state before the first of them
        :return: (T, B) float, prediction errors without gradient; (T, B) float, training losses with gradient;
            (B, hidden_size) float, hidden state after the last transition
        """
        outputs, hidden = self.predictor(transitions.latents, transitions.actions, hidden, transitions.episode_starts)
        return *self.predictor.errors_and_losses(outputs, transitions.next_latents), hidden

    def initial_hidden(self, n_envs: int) -> th.Tensor:
        """
        :param n_envs: ``B``
        :return: (B, hidden_size) float, hidden state before the first step of an episode
        """
        return th.zeros(n_envs, self.hidden_size, device=self.n_updates.device)

    def is_predicted(self, episode_starts: th.Tensor) -> th.Tensor:
        """
        :param episode_starts: (T, B) bool
        :return: (T - 1, B) bool, of which rows after the first, which nothing predicted, the error counts: not of what comes
            after the end of an episode
        """
        return ~episode_starts[1:]

    def intrinsic_rewards(self, errors: th.Tensor, episode_starts: th.Tensor) -> th.Tensor:
        """
        :param errors: (...) float, prediction error of each observation
        :param episode_starts: (...) bool; a reset is no surprise, its reward is 0
        :return: (...) float
        """
        return self.normalizer(errors).masked_fill(episode_starts, 0.0)
