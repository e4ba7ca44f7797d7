"""Names that ComfyUI reads when it loads."""


def resize(*_args: object, **_kwargs: object) -> object:
    """Refuses: nothing that this project runs resizes by torchvision."""
    raise RuntimeError("This is a stand-in; install torchvision to resize with it.")
