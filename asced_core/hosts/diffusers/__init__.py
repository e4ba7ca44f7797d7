"""ASCED in diffusers: watches the pipeline calls of a block, and corrects them in the same run.

A pipeline steps through its scheduler. ``watching`` puts itself in front of two methods of that one object, for one
block: ``set_timesteps`` tells the noise levels, ``step`` gives each state and its guided model output.
"""

from .watch import Run, watching

__all__ = ["Run", "watching"]
