"""IntrinsicRewardCallback in the Zoo: the world model lies beside the model, and -i takes it up again."""

from pathlib import Path

import pytest
import torch as th
from zoo_commands import Installation

CONF = """
CartPole-v1:
  n_envs: 2
  n_timesteps: 100
  policy: MlpPolicy
  policy_kwargs: dict(net_arch=[8])
  n_steps: 20
  batch_size: 20
  n_epochs: 1
  callback:
    - sb3_lwm.IntrinsicRewardCallback:
        intrinsic_reward_scale: lin_0.02
        world_model_kwargs:
          predictor_kwargs: {input_size: 8, gru_hidden_size: 12, head_size: 8}
"""


def n_updates(path: Path) -> int:
    return int(th.load(path, weights_only=True)["world_model"]["n_updates"])


def test_the_world_model_is_saved_with_the_model_and_taken_up_again(installation: Installation, tmp_path: Path) -> None:
    (tmp_path / "conf.yml").write_text(CONF)
    train = ["-m", "rl_zoo3.train", "--algo", "ppo", "--env", "CartPole-v1", "--conf-file", "conf.yml", "--eval-freq", "-1"]
    installation.run(tmp_path, *train, "--save-freq", "40", "--device", "cpu")
    run = tmp_path / "logs" / "ppo" / "CartPole-v1_1"
    first = n_updates(run / "world_model.pth")
    assert first > 0
    checkpoints = {path.stem.removeprefix("world_model") for path in run.glob("world_model_*_steps.pth")}
    assert checkpoints == {path.stem.removeprefix("rl_model") for path in run.glob("rl_model_*")} != set()
    installation.run(tmp_path, *train, "--device", "cpu", "-i", str(run / "CartPole-v1.zip"))
    assert n_updates(run.with_name("CartPole-v1_2") / "world_model.pth") == 2 * first


@pytest.mark.parametrize("algo", ["ppo", "ppo_lstm"])
def test_settings_for_other_algorithms_are_found_by_name(installation: Installation, tmp_path: Path, algo: str) -> None:
    pytest.importorskip("minigrid")
    task = ["--env", "MiniGrid-MultiRoom-N4-S5-v0", "-n", "2048", "--eval-freq", "-1", "--device", "cpu"]
    installation.run(tmp_path, "-m", "rl_zoo3.train", "--algo", algo, "--conf-file", f"minigrid-{algo}", *task)
    assert (tmp_path / "logs" / algo / "MiniGrid-MultiRoom-N4-S5-v0_1" / "world_model.pth").exists()
