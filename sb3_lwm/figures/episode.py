"""An episode of an agent, with its frames and intrinsic rewards."""

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch as th
from stable_baselines3.common.vec_env import VecEnv
from tqdm import tqdm

from sb3_lwm.common.type_aliases import RecurrentState
from sb3_lwm.envs import AtariVecEnv
from sb3_lwm.lwm_dqn.policies import LWMPolicy


class WatchedEpisode(NamedTuple):
    """A whole game with all its lives, or its beginning, after ``T`` steps."""

    frames: list[Any]  # (T + 1) pictures, (height, width, 3) uint8, or texts; the first one shows the reset
    intrinsic_rewards: npt.NDArray[np.float64]  # (T + 1,), intrinsic reward of each frame; NaN for the reset
    score: float  # sum of the environment's rewards


@th.inference_mode()
def watch_episode(policy: LWMPolicy, env: VecEnv, max_steps: int, epsilon: float = 0.0) -> WatchedEpisode:
    """
    Play one episode, and record the intrinsic reward of each observation by the agent's own world model, as computed by
    :meth:`~sb3_lwm.lwm_dqn.policies.LWMPolicy.act`. At the end of an episode or a life, ``act`` only gets the first
    observation of the next one; the intrinsic reward is then that of the last observation, as in training.

    :param policy: The policy of an agent with a world model
    :param env: A single environment, in a ``Monitor``, and in Gymnasium's ``RenderCollection`` with ``reset_clean=False``, or
        an :class:`~sb3_lwm.AtariVecEnv`; with the render mode ``"rgb_array"``, or ``"ansi"`` for texts
    :param max_steps: The number of steps after which an episode is not continued
    :param epsilon: The probability of a random action, drawn from NumPy's global generator
    :return: The episode
    :raises ValueError: If the policy has no world model, or there are several environments, or they have another render mode
    """
    _check(policy, env)
    policy.set_training_mode(False)
    observations, state = env.reset(), policy.initial_state(1)
    frames, rewards, score = [_frame(env)], [np.nan], 0.0
    starts = np.ones(1, dtype=bool)
    for _ in tqdm(range(max_steps), desc="Playing", unit="step", mininterval=1.0, disable=None):
        tensors = policy.obs_to_tensor(observations)[0]  # type: ignore[arg-type]
        actions, state = policy.act(tensors, state, th.as_tensor(starts, device=policy.device), epsilon)
        observations, environment_rewards, starts, infos = env.step(actions)
        is_over = "episode" in infos[0]
        frames.append(_frame(env, frames[-1] if is_over else None))
        rewards.append(_intrinsic_reward(policy, infos[0]["terminal_observation"] if starts[0] else observations, state))
        score += float(environment_rewards[0])
        if is_over:
            break
    return WatchedEpisode(frames, np.array(rewards), score)


def _check(policy: LWMPolicy, env: VecEnv) -> None:
    """Raise the errors of :func:`watch_episode`."""
    if policy.world_model is None:
        raise ValueError("This policy has no world model, and so no intrinsic reward: train with use_world_model=True.")
    if env.num_envs != 1:
        raise ValueError(f"An episode is watched in one environment, not {env.num_envs}.")
    needed = ["rgb_array"] if isinstance(env.unwrapped, AtariVecEnv) else ["rgb_array_list", "ansi_list"]
    if env.render_mode not in needed:
        modes = " or ".join(needed)
        raise ValueError(f"The environment's render mode is {env.render_mode}, an episode is watched with {modes}.")


def _intrinsic_reward(policy: LWMPolicy, observation: Any, state: RecurrentState) -> float:
    """Return the intrinsic reward of an observation that does not begin an episode, as ``act`` will compute it."""
    assert policy.world_model is not None
    tensors = policy.obs_to_tensor(observation)[0]
    goes_on = th.zeros(1, dtype=th.bool, device=policy.device)
    return float(policy.world_model.observe(tensors, state.predicted_latents, goes_on)[1])


def _frame(env: VecEnv, before_the_end: Any = None) -> Any:
    """Return the frame after the last step, (height, width, 3) uint8 or a text."""
    rendered = env.env_method("render")[0]
    if isinstance(env.unwrapped, AtariVecEnv):
        # ale-py has already begun the next game, and does not draw the last frame of this one
        return rendered.copy() if before_the_end is None else before_the_end
    # at the end of an episode, the same step resets the environment and appends a second picture
    return rendered[0]
