"""A labyrinth made by hand."""

from sb3_lwm.envs import PartiallyObservableLabyrinthEnv

LEFT, DOWN, RIGHT, UP = range(4)
SHIFTS = ((0, -1), (1, 0), (0, 1), (-1, 0))  # (rows, columns) of each action

# A labyrinth made by hand, and its passages as bits of the actions.
HAND_MADE_TEXT = """\
+---+---+---+
|           |
+   +---+   +
|   |       |
+   +---+   +
|   |       |
+---+---+---+"""
HAND_MADE_ACTIONS = (
    ((RIGHT, DOWN), (LEFT, RIGHT), (LEFT, DOWN)),
    ((UP, DOWN), (RIGHT,), (LEFT, UP, DOWN)),
    ((UP,), (RIGHT,), (LEFT, UP)),
)


def make_hand_made_env(start: tuple[int, int], render_mode: str | None = None) -> PartiallyObservableLabyrinthEnv:
    """
    :param start: The row and column of the start cell
    :param render_mode: The render mode of the environment
    :return: A 3x3 environment with the labyrinth above, after its reset
    """
    env = PartiallyObservableLabyrinthEnv(3, render_mode=render_mode)
    passages = [sum(1 << action for action in actions) for row in HAND_MADE_ACTIONS for actions in row]
    env._carve = lambda: passages  # type: ignore[method-assign]
    env.reset(seed=0)
    while env.position != start:
        env.reset()
    return env
