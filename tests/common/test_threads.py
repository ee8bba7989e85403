"""Small networks learn with one thread, unless the user has chosen a number."""

from typing import Any

import pytest
import torch as th
from helpers import SHORT, make_labyrinths
from stable_baselines3.common.callbacks import BaseCallback

from sb3_lwm import LWMDQN
from sb3_lwm.common import threads
from sb3_lwm.common.threads import chooses_one_thread


@pytest.mark.parametrize(
    ("environ", "n_threads", "expected"),
    [
        ({}, 4, True),
        ({"OMP_NUM_THREADS": "4"}, 4, False),
        ({"MKL_NUM_THREADS": "4"}, 4, False),
        # the user has called torch.set_num_threads
        ({}, 2, False),
    ],
)
def test_a_number_that_the_user_has_chosen_stays(environ: dict[str, str], n_threads: int, expected: bool) -> None:
    assert chooses_one_thread(environ, n_threads, default=4) == expected
    assert not chooses_one_thread({}, 1, default=1)


class Counter(BaseCallback):
    """Notes the number of threads during the training."""

    def _on_step(self) -> bool:
        self.n_threads = th.get_num_threads()
        return True


def test_learn_uses_one_thread_and_gives_the_others_back(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    before = th.get_num_threads()
    for name in threads.VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(threads, "_DEFAULT", 3)
    th.set_num_threads(3)
    try:
        counter = Counter()
        LWMDQN("MlpPolicy", make_labyrinths(), verbose=1, **SHORT).learn(8, callback=counter)
        assert counter.n_threads == 1 and th.get_num_threads() == 3
        assert capsys.readouterr().out.count("Using 1 thread instead of 3") == 1
        th.set_num_threads(2)
        LWMDQN("MlpPolicy", make_labyrinths(), **SHORT).learn(8, callback=counter)
        assert counter.n_threads == 2
    finally:
        th.set_num_threads(before)


@pytest.mark.parametrize("chosen", [3, 2])
def test_predict_uses_one_thread_and_gives_the_others_back(chosen: int, monkeypatch: pytest.MonkeyPatch) -> None:
    before = th.get_num_threads()
    for name in threads.VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(threads, "_DEFAULT", 3)
    model = LWMDQN("MlpPolicy", make_labyrinths(), **SHORT)
    used = []
    act = model.policy.act

    def act_and_note(*args: Any) -> Any:
        used.append(th.get_num_threads())
        return act(*args)

    monkeypatch.setattr(model.policy, "act", act_and_note)
    th.set_num_threads(chosen)
    try:
        assert model.env is not None
        model.predict(model.env.reset())
        # 2 is a number that the user has set
        assert set(used) == {1 if chosen == 3 else 2} and th.get_num_threads() == chosen
    finally:
        th.set_num_threads(before)
