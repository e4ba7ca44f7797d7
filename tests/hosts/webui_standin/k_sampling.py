"""Sampler functions in the style of k-diffusion; ``torch`` is a global here that a WebUI replaces."""

import torch


def _ancestral(sigma, after, eta):
    up = min(after, eta * (after**2 * (sigma**2 - after**2) / sigma**2) ** 0.5)
    return (after**2 - up**2) ** 0.5, up


def sample_euler(model, x, sigmas, extra_args=None, callback=None, disable=None, s_noise=1.0):
    ones = x.new_ones([x.shape[0]])
    for i in range(len(sigmas) - 1):
        torch.randn_like(x)  # drawn and not used, as in k-diffusion without churn
        denoised = model(x, sigmas[i] * ones, **extra_args)
        d = (x - denoised) / sigmas[i]
        callback({"x": x, "i": i, "sigma": sigmas[i], "sigma_hat": sigmas[i], "denoised": denoised})
        x = x + d * (sigmas[i + 1] - sigmas[i])
    return x


def sample_euler_ancestral(model, x, sigmas, extra_args=None, callback=None, disable=None, eta=1.0, noise_sampler=None):
    noise_sampler = noise_sampler or (lambda sigma, after: torch.randn_like(x))
    ones = x.new_ones([x.shape[0]])
    for i in range(len(sigmas) - 1):
        denoised = model(x, sigmas[i] * ones, **extra_args)
        down, up = _ancestral(sigmas[i], sigmas[i + 1], eta)
        callback({"x": x, "i": i, "sigma": sigmas[i], "sigma_hat": sigmas[i], "denoised": denoised})
        x = x + (x - denoised) / sigmas[i] * (down - sigmas[i])
        if sigmas[i + 1] > 0:
            x = x + noise_sampler(sigmas[i], sigmas[i + 1]) * up
    return x


def sample_heun(model, x, sigmas, extra_args=None, callback=None, disable=None):
    ones = x.new_ones([x.shape[0]])
    for i in range(len(sigmas) - 1):
        denoised = model(x, sigmas[i] * ones, **extra_args)
        d = (x - denoised) / sigmas[i]
        callback({"x": x, "i": i, "sigma": sigmas[i], "sigma_hat": sigmas[i], "denoised": denoised})
        dt = sigmas[i + 1] - sigmas[i]
        if sigmas[i + 1] == 0:
            x = x + d * dt
        else:
            second = model(x + d * dt, sigmas[i + 1] * ones, **extra_args)
            x = x + (d + (x + d * dt - second) / sigmas[i + 1]) / 2 * dt
    return x


def sample_dpmpp_2m(model, x, sigmas, extra_args=None, callback=None, disable=None):
    ones, old = x.new_ones([x.shape[0]]), None
    for i in range(len(sigmas) - 1):
        denoised = model(x, sigmas[i] * ones, **extra_args)
        callback({"x": x, "i": i, "sigma": sigmas[i], "sigma_hat": sigmas[i], "denoised": denoised})
        t, after = -sigmas[i].log(), -sigmas[i + 1].log()
        h, used = after - t, denoised
        if old is not None and sigmas[i + 1] > 0:
            r = (t + sigmas[i - 1].log()) / h
            used = (1 + 1 / (2 * r)) * denoised - 1 / (2 * r) * old
        x = sigmas[i + 1] / sigmas[i] * x - (-h).expm1() * used
        old = denoised
    return x


def sample_dpmpp_2m_sde(model, x, sigmas, extra_args=None, callback=None, disable=None, eta=1.0, noise_sampler=None):
    ones = x.new_ones([x.shape[0]])
    for i in range(len(sigmas) - 1):
        denoised = model(x, sigmas[i] * ones, **extra_args)
        callback({"x": x, "i": i, "sigma": sigmas[i], "sigma_hat": sigmas[i], "denoised": denoised})
        if sigmas[i + 1] == 0:
            x = denoised
        else:
            h = sigmas[i].log() - sigmas[i + 1].log()
            x = sigmas[i + 1] / sigmas[i] * (-eta * h).exp() * x + (-h - eta * h).expm1().neg() * denoised
            noise = noise_sampler(sigmas[i], sigmas[i + 1])
            x = x + noise * sigmas[i + 1] * (-2 * eta * h).expm1().neg().sqrt()
    return x


def sample_lcm(model, x, sigmas, extra_args=None, callback=None, disable=None, noise_sampler=None):
    noise_sampler = noise_sampler or (lambda sigma, after: torch.randn_like(x))
    ones = x.new_ones([x.shape[0]])
    for i in range(len(sigmas) - 1):
        denoised = model(x, sigmas[i] * ones, **extra_args)
        callback({"x": x, "i": i, "sigma": sigmas[i], "sigma_hat": sigmas[i], "denoised": denoised})
        x = denoised
        if sigmas[i + 1] > 0:
            x += sigmas[i + 1] * noise_sampler(sigmas[i], sigmas[i + 1])  # into the prediction itself
    return x


def restart_sampler(model, x, sigmas, extra_args=None, callback=None, disable=None, s_noise=1.0, back=(0.9, 0.6)):
    """Goes back once, from one share of the steps to another."""
    ones = x.new_ones([x.shape[0]])
    late, early = (round(share * (len(sigmas) - 1)) for share in back)
    order = [*range(late), *range(early, len(sigmas) - 1)]
    for number, i in enumerate(order):
        if number and i <= order[number - 1]:
            x = x + torch.randn_like(x) * s_noise * (sigmas[i] ** 2 - sigmas[order[number - 1] + 1] ** 2) ** 0.5
        denoised = model(x, sigmas[i] * ones, **extra_args)
        callback({"x": x, "i": number, "sigma": sigmas[i], "sigma_hat": sigmas[i], "denoised": denoised})
        x = x + (x - denoised) / sigmas[i] * (sigmas[i + 1] - sigmas[i])
    return x


def sample_dpm_fast(model, x, sigma_min, sigma_max, n, extra_args=None, callback=None, disable=None):
    sigmas = torch.linspace(float(sigma_max), float(sigma_min), n + 1)
    return sample_heun(model, x, sigmas, extra_args, callback)


def ddim(model, x, timesteps, extra_args=None, callback=None, disable=None, eta=0.0):
    ones = x.new_ones([x.shape[0]])
    for i, t in enumerate(reversed(timesteps)):
        eps = model(x, t * ones, **extra_args)
        callback({"x": x, "i": i, "sigma": 0, "sigma_hat": 0, "denoised": eps})
        x = 0.98 * x - 0.05 * eps
    return x
