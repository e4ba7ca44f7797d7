"""For hosts of k-diffusion samplers: a second run in step with the first, the watched model, the noise tape."""
