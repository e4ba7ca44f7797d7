"""Stand-in for modules.script_callbacks."""

saved = []


def on_image_saved(callback):
    saved.append(callback)
