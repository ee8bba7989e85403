"""Why VecNormalize is refused, and what to do instead."""

VEC_NORMALIZE_REMEDY = (
    "VecNormalize changes its statistics while old observations and rewards wait in the replay, which sequences with a "
    "memory cannot follow. Remove it (in the Zoo: drop `normalize` from the hyperparameters): the world model "
    "standardises what it sees by itself, and gymnasium.wrappers.TransformObservation or TransformReward scale by constants."
)
