"""The latent world model: it encodes observations, predicts the next latents, and computes the intrinsic reward."""

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

# LWM, section 5: the predictors of the labyrinth and of Atari, the latter without an activation after the input layer
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

    :param observation_space: The observation space, Box, Discrete, MultiDiscrete, MultiBinary, or a Dict of these, with
        images channels first
    :param action_space: The action space, Discrete, MultiDiscrete, MultiBinary or Box
    :param intrinsic_reward_scale: The factor of the normalised error
    :param intrinsic_reward_clip: The bound of the normalised error, in standard deviations; None for no clipping
    :param intrinsic_reward_momentum: The momentum of the error's running mean and standard deviation
    :param encoder_objective: The training objective of the encoder of images: ``"w-mse"``, ``"inverse-dynamics"``,
        ``"cpc"``, or ``"random"``, which leaves it untrained
    :param intrinsic_reward_normalizer: The average of the error's standard deviation, ``"moving"`` (LWM) or ``"long-run"``,
        see :class:`IntrinsicRewardNormalizer`
    :param intrinsic_reward_forgets_start: Whether the large errors of an untrained world model are soon forgotten, see there
    :param image_latent_size: The size of an image's embedding
    :param predictor_kwargs: The keyword arguments of the :class:`LatentPredictor`, by default the sizes of the paper
    :param encoder_objective_kwargs: The keyword arguments of the objective, such as ``batch_size`` and ``sequence_length``
    :param encoder_class: The class of the encoder of images, an SB3 features extractor; by default a convolutional network
        for their size. If it is given, every Box of three dimensions is an image.
    :param encoder_kwargs: The keyword arguments of the encoder of images
    :param flatten_images: Whether images are flattened to vectors; agents set it to True if their features extractor does so
    :param normalize_images: Whether pixels are divided by 255; if False every Box of three dimensions is an image
    :raises ValueError: If the objective does not exist, or there is an ``encoder_class`` without images
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
        intrinsic_reward_forgets_start: bool = False,
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
            intrinsic_reward_scale,
            intrinsic_reward_clip,
            intrinsic_reward_momentum,
            intrinsic_reward_normalizer,
            intrinsic_reward_forgets_start,
        )
        # with the pretraining; as buffers, so that a loaded model is not pretrained again; float like SB3's other weights
        self.register_buffer("n_updates", th.zeros(()))
        self.register_buffer("n_encoder_updates", th.zeros(()))

    @property
    def latent_size(self) -> int:
        """:return: The size of a latent, ``Z``"""
        return self.encoder.latent_size

    @property
    def hidden_size(self) -> int:
        """:return: The size of the predictor's hidden state"""
        return self.predictor.memory.hidden_size

    def encoder_objectives(self) -> dict[str, EncoderObjective]:
        """:return: The objective of each encoder of images by its key; empty if no encoder is trained"""
        keys = {name: key for key, name in self.encoder.names.items()}
        parts = {keys[name]: part for name, part in self.objectives.items() if isinstance(part, EncoderObjective)}
        return {key: part for key, part in parts.items() if part.trains_encoder}

    def encode(self, observations: Observations) -> th.Tensor:
        """
        Encode observations without gradient: the predictor does not train the encoder (LWM, section 4.2).

        :param observations: The observations, ``(T, B, *observation shape)``
        :return: The latents, (T, B, Z) float32
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
        Compare the latents of observations with their predictions.

        :param observations: The observations, ``(B, *observation shape)``
        :param predicted_latents: The predictions of the step before, (B, Z) float
        :param episode_starts: Whether an episode begins with each observation, so that it has no prediction, (B,) bool
        :return: The latents, (B, Z) float, and the intrinsic rewards, (B,) float
        """
        latents = self.encoder(observations)
        return latents, self.intrinsic_rewards(prediction_errors(latents, predicted_latents), episode_starts)

    def expect(
        self, latents: th.Tensor, actions: th.Tensor, hidden: th.Tensor, resets: th.Tensor
    ) -> tuple[th.Tensor, th.Tensor]:
        """
        Predict the next latents along a sequence; see :meth:`LatentPredictor.forward`.

        :param latents: The latents, (T, B, Z) float
        :param actions: The actions, ``(T, B, *action shape)``
        :param hidden: The hidden states before the first step, (B, hidden_size) float
        :param resets: Whether the hidden state is set to zero before each step, (T, B) bool
        :return: The predicted next latents, (T, B, Z) float, and the hidden states after the last step, (B, hidden_size) float
        """
        outputs, hidden = self.predictor(latents, actions, hidden, resets)
        return self.predictor.expected_latents(outputs), hidden

    def sequence_errors(self, samples: SequenceSamples) -> tuple[th.Tensor, th.Tensor]:
        """
        Compare the observations of sequences with the predictions, as :meth:`observe` and :meth:`expect` do step by step.

        :param samples: The (T, B) rows; without initial states the hidden state and the first prediction are zero
        :return: The prediction error of each row's observation, (T, B) float, and the training loss of the predictor at each
            row after the first, (T - 1, B) float with gradient; both are without meaning at episode starts
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
        Compare the next latents of transitions with their predictions.

        :param transitions: The (T, B) transitions, consecutive in time
        :param hidden: The hidden states before the first transition, (B, hidden_size) float
        :return: The prediction errors, (T, B) float without gradient; the training losses, (T, B) float with gradient; and
            the hidden states after the last transition, (B, hidden_size) float
        """
        outputs, hidden = self.predictor(transitions.latents, transitions.actions, hidden, transitions.episode_starts)
        return *self.predictor.errors_and_losses(outputs, transitions.next_latents), hidden

    def initial_hidden(self, n_envs: int) -> th.Tensor:
        """
        :param n_envs: The number of environments, ``B``
        :return: The hidden states before the first step of an episode, (B, hidden_size) float
        """
        return th.zeros(n_envs, self.hidden_size, device=self.n_updates.device)

    def is_predicted(self, episode_starts: th.Tensor) -> th.Tensor:
        """
        :param episode_starts: Whether an episode begins with each row, (T, B) bool
        :return: Whether each row after the first has a prediction, (T - 1, B) bool; first rows of episodes have none
        """
        return ~episode_starts[1:]

    def intrinsic_rewards(self, errors: th.Tensor, episode_starts: th.Tensor) -> th.Tensor:
        """
        :param errors: The prediction error of each observation, (...) float
        :param episode_starts: Whether an episode begins with each observation, whose reward is then 0, (...) bool
        :return: The intrinsic rewards, (...) float
        """
        return self.normalizer(errors).masked_fill(episode_starts, 0.0)
