"""Stand-in for torchvision: what ComfyUI imports of it when it loads. Not used where the real one is installed."""

from . import transforms as transforms
