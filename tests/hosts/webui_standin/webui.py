"""Stand-in for a WebUI's job: what happens from ``process`` to ``postprocess``, in the WebUI's order."""

import inspect
import math
from types import SimpleNamespace

import k_sampling
import numpy as np
import torch
from modules import script_callbacks
from PIL import Image

BETAS = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2  # as in Stable Diffusion
ALPHAS = (1 - BETAS).cumprod(0)
SIGMAS = ((1 - ALPHAS) / ALPHAS).sqrt().float()
LATE = 2.5  # sigma below which the artifact is there
SECOND_ORDER = ("sample_heun",)


class InterruptedException(BaseException):
    """Raised by the denoiser when the user interrupts."""


class PhiloxGenerator:
    """Numbers as on a GPU, without one: it has only a seed and a counter."""

    def __init__(self, seed):
        self.seed, self.offset = seed, 0

    def randn(self, shape):
        self.offset += 1
        return np.random.default_rng((self.seed, self.offset)).standard_normal(shape).astype(np.float32)


class ImageRNG:
    """The noise of a batch: each image has a generator of its own."""

    def __init__(self, shape, seeds, source="CPU"):
        self.shape, self.source = shape, source
        make = PhiloxGenerator if source == "NV" else lambda seed: torch.Generator().manual_seed(seed)
        self.generators = [make(seed) for seed in seeds]
        self.is_first = True

    def next(self):
        self.is_first = False
        if self.source == "NV":
            return torch.stack([torch.asarray(one.randn(self.shape)) for one in self.generators])
        return torch.stack([torch.randn(self.shape, generator=one) for one in self.generators])


class TorchHijack:
    """Replaces torch in the samplers' module."""

    def __init__(self, p):
        self._rng = p.rng

    def __getattr__(self, name):
        return getattr(torch, name)

    def randn_like(self, x):
        return self._rng.next()


class Predictor:
    """Forge's: knows the noise levels of a model."""

    def __init__(self, flow=False):
        self.flow = flow
        self.sigma_max = torch.tensor(1.0) if flow else SIGMAS[-1]

    def noise_scaling(self, sigma, noise, latent, max_denoise=False):
        if self.flow:
            return sigma * noise + (1.0 - sigma) * latent
        noise *= sigma
        noise += latent
        return noise

    def percent_to_sigma(self, percent):
        if percent <= 0:
            return 1.0 if self.flow else 999999999.9
        if self.flow:
            return 1.0 - percent
        return 0.0 if percent >= 1 else float(SIGMAS[round((1 - percent) * 999)])


class CFGDenoiser(torch.nn.Module):
    """Predicts a smooth picture, some of what it is given, and from a noise level on an artifact in some images."""

    def __init__(self, job):
        super().__init__()
        self.job, self.step = job, 0
        self.mask = self.nmask = self.init_latent = None

    def forward(self, x, sigma, cond):
        job = self.job
        job.calls += 1
        if job.calls == job.interrupt_at:
            raise InterruptedException
        if self.mask is not None:
            noisy = self.init_latent + sigma.view(-1, 1, 1, 1) * torch.randn_like(x)
            x = x * self.nmask + noisy * self.mask
        _, channels, height, width = x.shape
        down, right = torch.meshgrid(torch.linspace(0, 6.28, height), torch.linspace(0, 6.28, width), indexing="ij")
        base = torch.stack([torch.sin(down * (1 + k / 2)) + torch.cos(right + k) for k in range(channels)])
        everywhere = 0.05 * x.mean((1, 2, 3), keepdim=True)  # each cell sees the whole image
        out = base + 0.05 * x.clamp(-3, 3) + everywhere + 0.01 * cond[min(self.step, len(cond) - 1)]
        if float(sigma[0]) < job.late:
            for place in job.planted:
                out[place, :, 5:11, 5:11] += 3.0
        if job.cached:
            out = job.cache.setdefault(round(float(sigma[0]), 4), out)
        if self.mask is not None:
            out = out * self.nmask + self.init_latent * self.mask
        self.step += 1
        return out


class Sampler:
    """The sampler object: it reads the signature of its function to find out what to pass."""

    def __init__(self, job):
        function = job.function
        self.func, self.config = function, SimpleNamespace(name=job.sampler_name)
        self.model_wrap_cfg = CFGDenoiser(job)
        self.model_wrap = SimpleNamespace(sigmas=None if job.forge or job.secret else SIGMAS)
        self.given = None

    def sample(self, p, x, share=1.0, latent=0.0):
        job, steps = p.job, p.steps
        denoiser, parameters = self.model_wrap_cfg, inspect.signature(self.func).parameters
        k_sampling.torch = TorchHijack(p)
        denoiser.step = 0
        if job.area is not None:
            denoiser.mask, denoiser.nmask = 1 - job.area, job.area
            denoiser.init_latent = torch.full_like(x, 0.3)
        sigmas = job.sigmas(steps)
        sigmas = sigmas[round((1 - share) * steps) :]
        options = {}
        if "sigmas" in parameters:
            options["sigmas"] = sigmas
        if "n" in parameters:
            options.update(n=steps, sigma_min=sigmas[-2], sigma_max=sigmas[0])
        if "timesteps" in parameters:
            options["timesteps"] = torch.arange(1, 1000, 1000 // steps)
        if "eta" in parameters:
            options["eta"] = 1.0
        if job.sampler_name.endswith("SDE"):
            own = [torch.Generator().manual_seed(seed + 1) for seed in p.seeds]
            options["noise_sampler"] = lambda *_: torch.stack([torch.randn(x.shape[1:], generator=g) for g in own])
        self.given = set(options)
        start = latent + x * sigmas[0]
        extra = {"cond": job.prompt}
        try:
            return self.func(denoiser, start, extra_args=extra, disable=False, callback=lambda _: None, **options)
        except InterruptedException:
            return start


class Job:
    """One click on Generate.

    Args:
        function: the sampler's.
        name: of the sampler.
        more: attributes that differ from the defaults.
    """

    def __init__(self, function, name="Euler a", **more):
        self.function, self.sampler_name = function, name
        self.seeds, self.steps, self.count, self.size = [5, 6], 20, 1, 32
        self.planted, self.late, self.interrupt_at = (), LATE, 0
        self.forge, self.flow, self.hires, self.area, self.source = True, False, False, None, "CPU"
        self.cached, self.cache, self.prompt, self.folder = False, {}, [0.0], None
        self.strength, self.secret = 0.0, False
        vars(self).update(more)
        self.calls, self.samplers, self.latents = 0, [], []

    def sigmas(self, steps):
        if self.flow:
            return torch.linspace(1, 0, steps + 1)
        low, high = math.log(float(SIGMAS[0])), math.log(float(SIGMAS[-1]))
        return torch.cat([torch.linspace(high, low, steps).exp(), torch.zeros(1)])

    def run(self, script=None, *args):
        """The job's result, with an always visible script and its arguments."""
        torch.manual_seed(1)
        p = self._processing()
        self._call(script, "process", p, *args)
        processed = SimpleNamespace(images=[], infotexts=[], comments="", index_of_first_image=0)
        with torch.inference_mode():
            for iteration in range(self.count):
                self._batch(p, iteration, script, args, processed)
        self._call(script, "postprocess", p, processed, *args)
        k_sampling.torch = torch
        return processed

    def _processing(self):
        every = [seed + len(self.seeds) * n for n in range(self.count) for seed in self.seeds]
        model = SimpleNamespace()
        if self.forge:
            network = SimpleNamespace(predictor=Predictor(self.flow))
            model.forge_objects = SimpleNamespace(unet=SimpleNamespace(model=network))
        return SimpleNamespace(
            job=self, sd_model=model, sampler_name=self.sampler_name, steps=self.steps, all_seeds=every,
            all_subseeds=[100 + place for place in range(len(every))], subseed_strength=self.strength, is_hr_pass=False,
            batch_size=len(self.seeds), extra_generation_params={}, sd_model_hash="abc",
        )  # fmt: skip

    def _batch(self, p, iteration, script, args, processed):
        first = iteration * p.batch_size
        p.iteration = iteration
        p.seeds = p.all_seeds[first : first + p.batch_size]
        p.subseeds = p.all_subseeds[first : first + p.batch_size]
        p.is_hr_pass = False
        samples = self._pass(p, script, args, self.size)
        if self.hires:
            p.is_hr_pass = True
            larger = torch.nn.functional.interpolate(samples, scale_factor=1.5, mode="nearest")
            samples = self._pass(p, script, args, larger.shape[-1], 0.8, larger)
        self.latents += list(samples)
        for place, latent in enumerate(samples):
            p.batch_index = place
            shown = ((latent[:3].clamp(-3, 3) + 3) / 6 * 255).permute(1, 2, 0).byte().numpy()
            pp = SimpleNamespace(image=Image.fromarray(shown))
            if self.forge:
                pp.index = first + place
            for hook in ("postprocess_image", "postprocess_image_after_composite"):
                self._call(script, hook, p, pp, *args)
            processed.images.append(pp.image)
            processed.infotexts.append(self._infotext(p, place))
            if self.folder is not None:
                file = self.folder / f"{first + place:05}-{p.seeds[place]}.png"
                pp.image.save(file)
                for callback in script_callbacks.saved:
                    callback(SimpleNamespace(image=pp.image, p=p, filename=str(file), pnginfo={}))

    def _pass(self, p, script, args, size, share=1.0, latent=0.0):
        p.rng = ImageRNG((4, size, size), p.seeds, self.source)
        p.sampler = Sampler(self)
        self.samplers.append(p.sampler)
        noise = p.rng.next()
        self._call(script, "process_before_every_sampling", p, *args, x=noise, noise=noise)
        return p.sampler.sample(p, noise, share, latent)

    def _infotext(self, p, place):
        """Texts of one image: a function among the parameters is asked for its text."""
        known = {"p": p, "index": place, "all_seeds": p.seeds, "all_subseeds": p.subseeds, "iteration": 0}
        values = {k: v(**known) if callable(v) else v for k, v in p.extra_generation_params.items()}
        return {name: str(value) for name, value in values.items() if value is not None}

    @staticmethod
    def _call(script, hook, *args, **options):
        if script is not None:
            getattr(script, hook)(*args, **options)
