"""A window of steps recorded by JAX's profiler."""

from pathlib import Path

import jax


class Profiler:
    """Records `steps` steps from `start` on into a folder that TensorBoard and Perfetto read."""

    def __init__(self, folder: Path, start: int, steps: int):
        """Records nothing if `steps` is 0."""
        self._folder, self._start, self._stop = folder, start, start + steps
        self._running = False

    def before_step(self, done: int) -> None:
        """To be called with the steps done, before each step."""
        if self._running and done >= self._stop:
            self.close()
        elif not self._running and self._start <= done < self._stop:
            jax.profiler.start_trace(self._folder)
            self._running = True

    def close(self) -> None:
        """Ends a recording that is still running."""
        if self._running:
            jax.profiler.stop_trace()
            self._running = False
