"""What is done to the regions at T_c."""

from .corrector import Corrector
from .renoising import apply_ttc, item_generator, noise_keys

__all__ = ["Corrector", "apply_ttc", "item_generator", "noise_keys"]
