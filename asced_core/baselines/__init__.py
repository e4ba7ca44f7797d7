"""The baselines of the paper, each as close to its description as a common framework allows.

``clipping`` and ``sargd`` steer the predictions of a run, ``pal`` and ``bayesdiff`` are other detectors, and ``vlm``
asks a vision-language model about the final image. State replacement is a method of CorrectionSettings.
"""
