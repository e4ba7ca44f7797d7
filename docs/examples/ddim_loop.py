"""A DDIM loop of one's own with ASCED: watched, and corrected at T_c. The model is a toy with an artifact."""

import torch

from asced_core import DiscreteSchedule, RunFacts, Trajectory, clean_image, vp_level
from asced_core.noise import next_state

alphas = (1 - torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2).cumprod(0)
levels = [vp_level(alphas[t].item()) for t in range(999, 0, -40)] + [vp_level(1.0)]
image = 0.2 * torch.randn(2, 4, 64, 64, generator=torch.Generator().manual_seed(0))


def model(x, level):  # a network that predicts the noise; put yours here
    clean = image.clone()
    clean[1, :, 20:32, 30:42] += 1.0 if level.alpha > 0.35 else 0.0  # appears in mid-run and stays
    return (x - level.alpha * clean) / level.sigma


trajectory = Trajectory.begin(levels, DiscreteSchedule.from_alphas_cumprod(alphas.tolist()), seed=7)
x = torch.randn(image.shape, generator=torch.Generator().manual_seed(1))
for step, level in enumerate(levels[:-1]):
    denoised = clean_image(x, model(x, level), level, "epsilon")
    trajectory.observe(step, x, denoised)
    if trajectory.is_due(step) and (decision := trajectory.decide()).acts:
        x = trajectory.correct(decision, x, denoised)  # re-noises the regions, nothing else
        denoised = clean_image(x, model(x, level), level, "epsilon")  # the one added call
        trajectory.observe(step, x, denoised)
    x = next_state(x, denoised, level, levels[step + 1])
print(trajectory.report(RunFacts("ddim", seed=7)).summary())
