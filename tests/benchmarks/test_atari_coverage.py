"""The benchmark of what agents visit in Atari games."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from atari_coverage import AGENTS, GAMES, corner_of, curve, draw, draw_cells, env_id, first_room, make_trainings, parse
from trainings import Training, add_to

TASK = "MontezumaRevengeNoFrameskip-v4"
FOUND = """steps,env,what,room,x,y
2,0,cell,1,9,29
2,1,cell,1,10,29
4000,1,key,1,10,29
10000,1,cell,1,11,29
12000,0,cell,2,9,29
14000,1,door,1,11,29
"""


def finish(folder: Path, agent: str = "ppo", seed: int = 1) -> Training:
    """Write what a training of two games leaves behind."""
    training = Training(TASK, agent, AGENTS[agent], seed, 15_000, folder)
    training.run.mkdir(parents=True)
    (training.run / "discoveries.csv").write_text(FOUND)
    for env, lengths in enumerate(([3000], [3500, 4000])):
        rows = "".join(f"{100.0 * env},{length},1.0\n" for length in lengths)
        (training.run / f"{env}.monitor.csv").write_text(f'#{{"t_start": 0.0, "env_id": "{TASK}"}}\nr,l,t\n{rows}')
    training.record.write_text(json.dumps({"cpu_seconds": 12.5}))
    return training


def test_a_curve_counts_what_was_found_by_the_end_of_each_interval(tmp_path: Path) -> None:
    rows = curve(finish(tmp_path))
    assert rows.steps.tolist() == [10_000, 15_000]
    assert rows[["rooms", "cells", "keys", "doors", "games"]].to_numpy().tolist() == [[1, 3, 1, 0, 2], [2, 4, 1, 1, 3]]
    # games that ended after 6000, 7000 and 15 000 steps of both together
    assert rows.mean_score.tolist() == pytest.approx([50.0, 200 / 3])
    assert set(rows.agent) == {"ppo"} and set(rows.cpu_seconds) == {12.5}


def test_every_agent_has_settings_and_a_folder_of_its_own(tmp_path: Path) -> None:
    options = parse(["--games", "Venture", "Freeway", "--runs", str(tmp_path), "--output", "x.csv"])
    trainings = make_trainings(options)
    assert len({training.folder for training in trainings}) == len(trainings) == 2 * len(AGENTS) * 3
    assert {training.steps for training in trainings} == {200_000}
    for agent in AGENTS.values():
        blocks = yaml.safe_load(agent.conf_file.read_text(encoding="utf-8"))
        for game in GAMES:
            wrappers = blocks.get(env_id(game), blocks["atari"])["vec_env_wrapper"]
            # otherwise nothing would be counted
            assert wrappers[0]["sb3_lwm.zoo.atari.native_atari"]["ram_envs"] == 32


def test_the_picture_is_of_montezumas_revenge() -> None:
    with pytest.raises(SystemExit):
        parse(["--games", "Venture", "--picture", "cells.png", "--output", "x.csv"])


def test_cells_are_drawn_where_the_player_is() -> None:
    # at the start, at the bytes 77 and 235, the hat of the player is red
    left, top = corner_of(77 // 8, 235 // 8)
    square = first_room()[top : top + 8, left : left + 8]
    assert 72 <= top <= 92 and 70 <= left <= 84
    assert (square.astype(int).max(-1) > 100).mean() > 0.3


def test_the_pictures_are_drawn(tmp_path: Path) -> None:
    trainings = [finish(tmp_path / str(seed), agent, seed) for seed, agent in enumerate(("ppo", "dqn"))]
    results = add_to(tmp_path / "results.csv", pd.concat([curve(training) for training in trainings]))
    draw(results, tmp_path / "curves.png")
    draw_cells(trainings, tmp_path / "cells.png")
    assert all((tmp_path / name).stat().st_size > 5000 for name in ("curves.png", "cells.png"))
    assert np.array_equal(results.columns[:5], ["task", "agent", "seed", "total_steps", "steps"])
