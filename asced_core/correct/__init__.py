"""What is done to the regions at T_c."""

from .corrector import Corrector
from .redoing import Predict
from .renoising import apply_ttc, item_generator, noise_keys

__all__ = ["Corrector", "Predict", "apply_ttc", "item_generator", "noise_keys"]
