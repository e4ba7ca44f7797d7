"""The other systems that the paper compares with, each as close to its description as a common host allows.

``clipping`` and ``sargd`` steer the predictions of a run, ``pal`` and ``bayesdiff`` look for artifacts in another way,
``vlm`` asks a language model about the final image. State replacement is a method of CorrectionSettings.
"""
