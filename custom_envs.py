"""
Registers the algorithm ``lwm_dqn`` and its environments with the RL Zoo.

``rl_zoo3.import_envs`` imports a module of this name, if there is one, before the scripts build their parsers. A
``custom_envs`` of your own in the working directory is imported instead, and then needs this line::

    import sb3_lwm.zoo; sb3_lwm.zoo.register()
"""

import warnings

try:
    from sb3_lwm.zoo import register

    register()
except ImportError as error:
    # The Zoo ignores an ImportError, and its only message would be that lwm_dqn is an invalid choice.
    warnings.warn(
        f"The RL Zoo will not know the algorithm 'lwm_dqn', since sb3_lwm cannot be imported: {error!r}. "
        "`pip install --upgrade sb3-lwm` installs what is missing; `python -c 'import sb3_lwm.zoo'` shows the whole error.",
        stacklevel=1,
    )
