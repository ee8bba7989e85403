"""Random changes of frames to which an embedding should be invariant."""

import torch as th


def random_shift(frames: th.Tensor, max_shift: int, generator: th.Generator | None = None) -> th.Tensor:
    """
    Shift every frame circularly by its own random number of pixels, drawn for each axis (LWM, section 5.2).

    :param frames: The frames, (N, C, H, W) of any dtype
    :param max_shift: The largest shift in pixels; shifts are uniform in ``[-max_shift, max_shift]``
    :param generator: The generator of the shifts, on the device of the frames; None for PyTorch's global one
    :return: The shifted frames, (N, C, H, W) of the same dtype
    :raises ValueError: If ``max_shift`` is negative
    """
    if max_shift < 0:
        raise ValueError(f"max_shift must not be negative, got {max_shift}: use 0 for no shift.")
    n_frames, _, height, width = frames.shape
    device = frames.device
    rows, columns = (th.arange(-max_shift, size + max_shift, device=device) % size for size in (height, width))
    # all windows of the wrapped frames are views: one gather copies the drawn ones
    wrapped = frames.index_select(2, rows).index_select(3, columns)
    windows = wrapped.unfold(2, height, 1).unfold(3, width, 1)
    top, left = th.randint(2 * max_shift + 1, (2, n_frames), generator=generator, device=device)
    return windows[th.arange(n_frames, device=device), :, top, left]
