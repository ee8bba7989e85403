"""How a training is saved as a whole, and goes on."""

import warnings
from pathlib import Path
from typing import Any, TypeVar

import torch as th
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.type_aliases import GymEnv

from sb3_lwm.lwm_dqn.q_learning import SequenceDQN
from sb3_lwm.training_state import content, files, replay
from sb3_lwm.training_state.callback_state import set_callbacks_state
from sb3_lwm.training_state.locking import check_unused
from sb3_lwm.training_state.logs import restore_pending
from sb3_lwm.training_state.random_state import set_random_state

SelfResumableDQN = TypeVar("SelfResumableDQN", bound="ResumableDQN")


class ResumableDQN(SequenceDQN):
    """
    The part of a recurrent DQN that writes training states and goes on from them. Base class of :class:`~sb3_lwm.LWMDQN`.
    """

    # the newest state that this agent has written or was loaded from, and how far its replay was
    _last_state_saved: tuple[files.SavedState, replay.ReplayMark] | None = None
    # what is restored when learn() begins
    _resumed_tree: dict[str, Any] | None = None
    _learning_callback: BaseCallback | None = None
    _has_warned_of_environments = False

    @property
    def last_training_state(self) -> Path | None:
        """:return: the newest state that this agent has written, or was loaded from; None if there is none"""
        return None if self._last_state_saved is None else self._last_state_saved[0].path

    @property
    def remaining_timesteps(self) -> int:
        """:return: steps from here to the total that the last ``learn`` was asked for"""
        return max(self._total_timesteps - self.num_timesteps, 0)

    def save_training_state(self, folder: str | Path, keep_last: int = 2) -> Path | None:
        """
        Write all that the training needs to go on. To be called between an update and the next rollout, or after ``learn``;
        :class:`~sb3_lwm.TrainingStateCallback` does it by itself.

        :param folder: gets ``state_<steps>``
        :param keep_last: how many states stay there
        :return: the state, None if it could not be written: it is warned of, and the others are as they were
        :raises NonFiniteError: if an update was not finite; no bad state is written
        """
        folder = Path(folder)
        self.finite_guard.read()
        assert self.replay_buffer is not None, "There is no replay yet: learn first."
        last = self._last_state_saved
        # files are shared with a state in the same folder, of the same course of events
        previous, before = last if last is not None and last[0].path.parent.resolve() == folder.resolve() else (None, None)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            name = files.name_for(folder, self.num_timesteps)
            with files.StateWriter(folder, name, previous) as writer:
                state = writer.commit(content.save_content(writer, self, before))
            self._last_state_saved = (state, replay.mark(self.replay_buffer))
            # what is newer than this one is spoilt, or of a course of events that was given up
            states = files.find_states(folder)
            position = states.index(state.path)
            files.remove_states([*states[:position], *states[position + keep_last :]])
        except OSError as error:
            warnings.warn(
                f"The training state could not be saved in {folder}: {error}. The training goes on; the last whole state is "
                f"{self.last_training_state}.",
                RuntimeWarning,
                stacklevel=2,
            )
            return None
        return state.path

    @classmethod
    def load_training_state(
        cls: type[SelfResumableDQN], path: str | Path, env: GymEnv, device: th.device | str = "auto", **kwargs: Any
    ) -> SelfResumableDQN:
        """
        Make an agent that goes on where its training was saved::

            model = LWMDQN.load_training_state("states", env)
            model.learn(model.remaining_timesteps, reset_num_timesteps=False, callback=TrainingStateCallback("states"))

        It has the arguments that it was made with. Nothing in the files is run. Random generators and the counters of
        callbacks are set when ``learn`` begins.

        :param path: a state, a folder of states, or the folder of a run; the newest complete state is taken, those that are
            not are warned of
        :param env: made as the one that was trained on
        :param device: of the networks
        :param kwargs: arguments of the constructor that go before the saved ones; functions, which cannot be saved
        :return: the agent
        :raises ValueError: if no state is complete, an argument is missing, or the training is still running
        """
        spoilt = []
        for candidate in files.candidates(Path(path)):
            try:
                state = files.read_state(candidate)
                tree = content.read_tree(state)
            except files.SpoiltStateError as error:
                spoilt.append(str(error))
                continue
            # its logs are about to be cut back
            check_unused(candidate.parent)
            for message in spoilt:
                warnings.warn(f"{message} An older state is taken, {candidate.name}.", stacklevel=2)
            model = cls(env=env, device=device, **content.loaded_arguments(state, kwargs))
            content.restore_content(model, state, tree)
            model._resumed_tree = {name: tree[name] for name in ("callbacks", "logger", "random")}
            assert model.replay_buffer is not None
            model._last_state_saved = (state, replay.mark(model.replay_buffer))
            return model
        raise ValueError(f"{path} has no complete training state: {' '.join(spoilt)}")

    def restore_learning(self, callback: BaseCallback) -> None:
        """
        Called by ``learn`` when all is set up.

        :param callback: with all that it holds
        """
        self._learning_callback = callback
        if self._resumed_tree is None:
            return
        tree, self._resumed_tree = self._resumed_tree, None
        set_callbacks_state(callback, tree["callbacks"])
        restore_pending(self.logger, tree["logger"])
        set_random_state(self.action_space, tree["random"])

    def _excluded_save_params(self) -> list[str]:
        own = ["_last_state_saved", "_resumed_tree", "_learning_callback", "_has_warned_of_environments"]
        return [*super()._excluded_save_params(), *own]
