"""Stand-in for modules.ui_components."""

from gradio import Component


class InputAccordion(Component):
    pass
