"""The harness of the labyrinth results: what it trains, what it leaves alone, and what it makes of a run."""

import argparse
import inspect
import sys
from pathlib import Path
from typing import Any

import ablations
import gymnasium as gym
import labyrinth
import labyrinth_variants
import numpy as np
import pandas as pd
import pytest
import torch as th
from helpers import SHORT, make_labyrinths
from test_act_replay import check_acting_and_replay_agree

from sb3_lwm import LWMDQN
from sb3_lwm.type_aliases import SequenceSamples
from sb3_lwm.world_model import LatentWorldModel


def parse(folder: Path, *arguments: str) -> argparse.Namespace:
    given = ["--runs", str(folder), "--output", str(folder / "out.csv"), *arguments]
    return labyrinth.parse(labyrinth.AGENTS, "", (3,), given)


def make_cell(options: argparse.Namespace, name: str = "dqn") -> labyrinth.Cell:
    return next(cell for cell in labyrinth.make_cells(options, labyrinth.AGENTS) if cell.name == name)


def leave(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()


def test_cells(tmp_path: Path) -> None:
    cells = labyrinth.make_cells(parse(tmp_path, "--sizes", "3", "5", "--agents", "search", "dqn"), labyrinth.AGENTS)
    assert [(cell.size, cell.name, cell.seed) for cell in cells] == [
        (n, "dqn", seed) for n in (3, 5) for seed in (100, 101, 102)
    ]
    # other settings never take over these trainings
    others = labyrinth.make_cells(parse(tmp_path, "--params", "gamma:0.9", "policy:'A'"), labyrinth.AGENTS)
    assert not {cell.logs for cell in cells} & {cell.logs for cell in others}
    assert others[0].logs.name == "labyrinth-gamma-0.9-policy-A-_dqn_3_100"


def test_a_new_training(tmp_path: Path) -> None:
    options = parse(tmp_path, "--conf-file", "labyrinth-paper", "--params", "gamma:0.9")
    cell = make_cell(options)
    # from a run that never came to its first state
    leave(cell.run / "0.monitor.csv")
    text = " ".join(labyrinth.command(cell, options))
    assert not cell.logs.exists()
    assert "train --algo lwm_dqn --env POL-3x3-v0 --seed 100 -n 1000000" in text and f"-f {cell.logs}" in text
    assert "--conf-file labyrinth-paper" in text and text.endswith("-params use_world_model:False gamma:0.9")
    options = parse(tmp_path)
    assert "-params" not in labyrinth.command(make_cell(options, "lwm_dqn"), options)


def test_a_stopped_training_goes_on(tmp_path: Path) -> None:
    options = parse(tmp_path)
    cell = make_cell(options)
    (cell.run / "states" / "state_800").mkdir(parents=True)
    assert labyrinth.command(cell, options)[-2:] == ["resume", str(cell.run)]


def test_a_finished_training_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    options = parse(tmp_path, "--steps", "200", "--interval", "100")
    cell = make_cell(options)
    trained: list[labyrinth.Cell] = []
    monkeypatch.setattr(labyrinth, "train", lambda cell, options: trained.append(cell))
    leave(cell.run / "rl_model_100_steps.zip")
    labyrinth.train_all([cell], options)
    assert trained == [cell]
    leave(cell.run / "rl_model_200_steps.zip")
    labyrinth.train_all([cell], options)
    assert trained == [cell] and list(cell.checkpoints()) == [100, 200]


def test_a_failed_training_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(labyrinth, "command", lambda cell, options: [sys.executable, "-c", "raise SystemExit(3)"])
    options = parse(tmp_path, "--params", "gamma:0.9")
    with pytest.raises(SystemExit, match=r"training of dqn, size 3, seed 100 ended with exit code 3.*gamma-0.9_dqn_3_100.txt"):
        labyrinth.train_all([make_cell(options)], options)


def test_learning_curve(tmp_path: Path) -> None:
    # two environments: a step of one is two of the run
    for env, lengths in enumerate(([30, 10, 40, 21], [60])):
        rows = "\n".join(f"-{length},{length},{10 * env + number}" for number, length in enumerate(lengths))
        (tmp_path / f"{env}.monitor.csv").write_text(f'#{{"t_start": 0, "env_id": "POL"}}\nr,l,t\n{rows}\n')
    curve = labyrinth.learning_curve(tmp_path, 100, last=200)
    # ends at 60, 80, 160 and 202 of the first, at 120 of the second; a rollout went beyond the run's 200 steps
    assert curve.steps.tolist() == [100, 200] and curve.episodes.tolist() == [2, 2]
    assert curve.mean_steps.tolist() == [20, 50] and curve.standard_deviation.tolist() == [10, 10]
    assert curve.wall_seconds.tolist() == [1, 10]


def test_bounds_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(labyrinth, "bound", lambda name, size: np.array([10, 20 + size]))
    output = tmp_path / "out.csv"
    labyrinth.main(arguments=["--sizes", "3", "5", "--agents", "search", "--output", str(output), "--runs", str(tmp_path)])
    assert pd.read_csv(output).mean_steps.tolist() == [16.5, 17.5]
    assert "search 16.50" in " ".join(capsys.readouterr().out.split())


def test_a_table_in_parts(tmp_path: Path) -> None:
    def rows(size: int, agent: str, seed: float, value: float, settings: str | None = "labyrinth") -> pd.DataFrame:
        part = pd.DataFrame([{"size": size, "agent": agent, "seed": seed, "settings": settings, "mean_steps": value}])
        # bounds alone have no column of settings
        return part.dropna(axis=1)

    def agents(table: pd.DataFrame) -> list[tuple[int, str, float]]:
        return list(table[["size", "agent", "mean_steps"]].itertuples(index=False, name=None))

    path = tmp_path / "out.csv"
    bound = rows(3, "search", np.nan, 11.0, None)
    for new in (rows(4, "dqn", 1.0, 1.0), rows(3, "dqn", 1.0, 2.0), bound, rows(3, "dqn", 1.0, 3.0, "labyrinth-paper")):
        labyrinth.write(labyrinth.add_to(path, new), path)
    assert agents(pd.read_csv(path)) == [(3, "search", 11.0), (3, "dqn", 2.0), (3, "dqn", 3.0), (4, "dqn", 1.0)]
    # the same again takes the place of what was there
    for new in (bound.assign(mean_steps=12.0), rows(3, "dqn", 1.0, 4.0)):
        labyrinth.write(labyrinth.add_to(path, new), path)
    assert agents(pd.read_csv(path)) == [(3, "search", 12.0), (3, "dqn", 3.0), (3, "dqn", 4.0), (4, "dqn", 1.0)]


def test_every_model_is_evaluated_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cell = make_cell(parse(tmp_path))
    for steps in (100, 200):
        leave(cell.run / f"rl_model_{steps}_steps.zip")
    calls: list[tuple[Any, ...]] = []

    def score(*arguments: Any) -> dict[str, float]:
        calls.append(arguments)
        return {"mean_score": -arguments[2] / 10, "standard_deviation": 2.0, "episodes": 128, "minimum": -30}

    monkeypatch.setattr(labyrinth, "score", score)
    first, again = labyrinth.evaluate(cell), labyrinth.evaluate(cell)
    # to the end of the labyrinth's own time, whatever the training's was
    assert calls == [(cell.run, 128, steps, ["max_episode_steps:1000"]) for steps in (100, 200)]
    assert first.mean_steps.tolist() == again.mean_steps.tolist() == [10.0, 20.0]
    assert list(first.columns) == ["steps", "mean_steps", "standard_deviation", "episodes", "kind"]


# --- Ablations ---


def make_variant(policy: str) -> LWMDQN:
    assert labyrinth_variants.LWMDQN.policy_aliases[policy]
    return LWMDQN(policy, make_labyrinths(2), seed=0, **SHORT)


def test_blind_to_the_reward() -> None:
    network = make_variant("RewardBlindPolicy").q_net
    observations, starts = th.zeros(3, 1, 4), th.zeros(3, 1, dtype=th.bool)
    actions, hidden = th.zeros(3, 1, dtype=th.int64), th.zeros(1, network.memory.hidden_size)
    outputs = [network.remember(observations, actions, th.full((3, 1), reward), starts, hidden) for reward in (0.0, 5.0)]
    assert th.equal(*outputs)


@pytest.mark.parametrize("policy", ["RewardBlindPolicy", "NeverResetPolicy", "RawErrorPolicy", "PaidResetsPolicy"])
def test_a_variant_acts_as_it_learns(policy: str) -> None:
    check_acting_and_replay_agree(0, policy)


def test_never_reset() -> None:
    model = make_variant("NeverResetPolicy")
    assert model.policy.world_model is not None
    for memory in (model.q_net.memory, model.q_net_target.memory, model.policy.world_model.predictor.memory):
        inputs = th.randn(4, 1, memory.cell.input_size)
        starts = th.tensor([[False], [False], [True], [False]])
        hidden = th.ones(1, memory.hidden_size)
        acted = [hidden]
        with th.no_grad():
            # the second row is the final observation, before a start
            for row in (0, 2, 3):
                acted.append(memory(inputs[row : row + 1], acted[-1], starts[row : row + 1])[0])
        replayed = memory(inputs, hidden, starts)
        th.testing.assert_close(replayed, th.stack((acted[1], acted[1], acted[2], acted[3])))
        replayed.sum().backward()
        assert all(parameter.grad is not None and parameter.grad.isfinite().all() for parameter in memory.parameters())


def test_raw_errors() -> None:
    model = make_variant("RawErrorPolicy")
    assert model.policy.world_model is not None
    model.learn(100)
    errors = th.tensor([0.0, 0.5, 2.0])
    assert th.equal(model.policy.world_model.normalizer(errors), errors)


def test_resets_are_paid() -> None:
    policy = make_variant("PaidResetsPolicy").policy
    world_model, state = policy.world_model, policy.initial_state(1)
    assert world_model is not None
    observations, actions, nothing = th.randint(2, (5, 1, 4)).float(), th.randint(4, (5, 1)), th.zeros(5, 1)
    # the third row is the final observation of an episode
    starts, finals = th.tensor([[True, False, False, True, False], [False, False, True, False, False]])[..., None]
    fields = (observations, actions, nothing, starts, finals, finals, None, th.ones(1), np.zeros(1, dtype=np.int64), nothing)
    samples = SequenceSamples(*fields)
    errors, losses = world_model.sequence_errors(samples, state)
    expected, _ = world_model.expect(observations[:2], actions[:2], state.model_hidden, starts[:2])
    surprise = th.nn.functional.mse_loss(expected[1, 0], observations[3, 0])
    entropy = th.nn.functional.binary_cross_entropy(expected[1, 0], observations[3, 0])
    assert errors[2, 0].item() == pytest.approx(surprise.item(), rel=1e-4)
    assert losses[1, 0].item() == pytest.approx(entropy.item(), rel=1e-4)
    # of the rows that count, no other is different
    usual_errors, usual_losses = LatentWorldModel.sequence_errors(world_model, samples, state)
    assert th.equal(errors[[1, 4]], usual_errors[[1, 4]]) and th.equal(losses[[0, 3]], usual_losses[[0, 3]])


def test_ablations_change_what_exists() -> None:
    """Every argument and every settings file that an ablation names."""
    known = inspect.signature(LWMDQN).parameters
    for agent in ablations.AGENTS.values():
        for name, value in (part.split(":", 1) for part in agent.params):
            assert name in known and (name != "policy" or value.strip("'") in LWMDQN.policy_aliases)
        assert agent.conf_file is None or Path(agent.conf_file).exists()


@pytest.mark.parametrize("arguments", [["--jobs", "0"], ["--steps", "150", "--interval", "100"], ["--sizes", "9"]])
def test_bad_options(arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse(tmp_path, *arguments)
    assert arguments[0] in capsys.readouterr().err


def test_pictures() -> None:
    pytest.importorskip("rliable")
    plot = pytest.importorskip("plot")
    rows = [
        {"size": 3, "agent": agent, "kind": "bound", "mean_steps": value} for agent, value in (("search", 11), ("random", 150))
    ]
    for seed, agent, steps in [
        (seed, agent, steps) for seed in (1, 2, 3) for agent in ("dqn", "lwm_dqn") for steps in (100, 200)
    ]:
        for kind in ("training", "evaluation"):
            rows.append({"size": 3, "agent": agent, "seed": seed, "steps": steps, "kind": kind, "mean_steps": 10.0 * seed})
    results = pd.DataFrame(rows)
    means, intervals = plot.interquartile(np.array([[10.0, 1.0], [20.0, 2.0], [30.0, 3.0]]))
    np.testing.assert_allclose(means, [20.0, 2.0])
    assert (intervals[0] <= means).all() and (means <= intervals[1]).all()
    (curves,), (bars,) = plot.draw_curves(results).axes, plot.draw_steps(results).axes
    # three seeds and their mean for each of two agents, and two bounds
    assert len(curves.lines) == 2 * 4 + 2
    assert [label.get_text() for label in bars.get_yticklabels()] == ["dqn", "lwm_dqn"]
    np.testing.assert_allclose([bar.get_width() for bar in bars.patches], [20.0, 20.0])
    assert sorted(line.get_xdata()[0] for line in bars.lines[2:]) == [11, 150]
    # ablations: a panel for each, beside what they are compared with
    ablations = results.replace({"agent": {"lwm_dqn": "complete"}})
    more = ablations[ablations.agent == "dqn"].assign(agent="no-burn-in")
    panels = plot.draw_curves(pd.concat([ablations, more])).axes
    assert [[text.get_text() for text in axes.get_legend().get_texts()[:2]] for axes in panels] == [
        ["complete", "dqn"],
        ["complete", "no-burn-in"],
    ]
    # a size at which there is nothing to compare with yet
    alone = results[results.agent == "lwm_dqn"].assign(size=4)
    titles = [axes.get_title() for axes in plot.draw_curves(pd.concat([results, alone])).axes]
    assert titles == ["3x3", "4x4"]


def test_pictures_of_one_kind_of_settings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("rliable")
    plot = pytest.importorskip("plot")
    path = tmp_path / "labyrinth.csv"
    pd.DataFrame({"settings": [None, "labyrinth", "labyrinth-paper"]}).to_csv(path)
    monkeypatch.setattr(sys, "argv", ["plot.py", str(path), "--output", str(tmp_path)])
    with pytest.raises(SystemExit):
        plot.main()
    assert "labyrinth, labyrinth-paper" in capsys.readouterr().err


def test_picture_of_a_walk(tmp_path: Path) -> None:
    walk_figure = pytest.importorskip("walk_figure")
    env = gym.make("POL-v0", size=2).unwrapped
    env.reset(seed=0)
    # there and back, and a move into a wall
    row, column = env.position
    action = int(np.flatnonzero(env.passages[row, column])[0])
    wall = int(np.flatnonzero(~env.passages[row, column])[0])
    path = [env.position]
    for move in (action, (action + 2) % 4, wall):
        env.step(move)
        path.append(env.position)
    np.testing.assert_array_equal(walk_figure.first_visits(np.array(path)), [True, True, False, False])
    walk = {"env": "POL-v0", "passages": env.passages.tolist(), "path": path, "intrinsic_rewards": [None, 2.0, -0.5, -0.25]}
    labyrinth, rewards = walk_figure.draw_walk(walk).axes[:2]
    walls, ways = labyrinth.collections
    # 4 cells with 4 sides, 3 passages with two ends each; the move into the wall leaves no line
    assert len(walls.get_segments()) == 16 - 6 and len(ways.get_segments()) == 2
    # there and back lie beside each other, each aside of the cells' middles
    (there, back) = ways.get_segments()
    np.testing.assert_allclose((there + back[::-1]) / 2, np.array(path[:2])[:, ::-1])
    assert not np.allclose(there, back[::-1])
    assert [label.get_text() for label in labyrinth.texts] == ["0", "1"]
    assert sorted(bar.get_height() for bar in rewards.patches) == [-0.5, -0.25, 2.0]
