"""Packs the authors' recorded results into ``results.xz`` and reads them back: ``python packing.py FOLDER``.

The folder holds the recorded files (.npz). Every value is kept exactly. An index in JSON holds the scalars and says
how each array was coded:

- ``bits``: eight booleans a byte.
- ``planes``: first bytes of all numbers, then second bytes, and so on; XORed first with an array that is mostly equal.
- ``frames``: each value's difference from a prediction by its neighbours above and in the two frames before.
- ``random``: frames that are the raw output of NumPy's PCG64, whose stream never changes.
"""

from __future__ import annotations

import json
import lzma
import math
import sys
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

RESULTS = Path(__file__).resolve().parent / "results.xz"
# Fields that no test reads, by the first letter of the case.
LEFT_OUT = {
    "0": {"median", "mad", "n_near_1e3", "stable_1e3"},
    "1": {"median", "mad", "n_near_1e3", "stable_1e3"},
    "c": {"index", "timestep", "alphas_cumprod", "seed"},
    "e": {"timestep_map", "final_uncorrected", "correct_eta", "reverse_step", "call0_pred", "call1_pred"},
    "s": {"alphas_cumprod_ddim25", "timestep_map_ddim25"},
}
MOSTLY_EQUAL = {"output": "x_t", "call0_after": "call0_before", "call1_after": "call1_before"}
RANDOM = {"08_pure_noise_128": 108}  # seeds

FORMER = [(age, y, x) for age in (1, 2) for y in (-1, 0, 1) for x in (-1, 0, 1)]  # frames ago, rows down, columns right
ABOVE = [(0, y, x) for y in (-2, -1) for x in (-1, 0, 1)]
SCALE = 12  # bits after the point of a weight
FILTERS = [{"id": lzma.FILTER_LZMA2, "preset": 9 | lzma.PRESET_EXTREME, "lc": 3, "lp": 0, "pb": 0}]


def unpack(path: Path = RESULTS) -> dict[str, dict[str, NDArray]]:
    """The fields of each case, by the case's name."""
    data = lzma.decompress(path.read_bytes())
    end = data.index(b"\n") + 1
    cases = {}
    for name, fields in json.loads(data[:end]).items():
        case = cases[name] = {}
        for key, value in fields.items():
            if not isinstance(value, dict):
                case[key] = np.array(value)
                continue
            part, end = data[end : end + value["bytes"]], end + value["bytes"]
            case[key] = _decoded(part, value, case)
            if zlib.crc32(case[key].tobytes()) != value["crc32"]:
                raise ValueError(f"{name}: {key} was not read as it was recorded")
    return cases


def _decoded(part: bytes, how: dict, case: dict[str, NDArray]) -> NDArray:
    shape, dtype, count = how["shape"], np.dtype(how["dtype"]), math.prod(how["shape"])
    raw = np.frombuffer(part, np.uint8)
    if how["coding"] == "bits":
        return np.unpackbits(raw, count=count).astype(bool).reshape(shape)
    if how["coding"] == "random":
        return np.random.PCG64(how["seed"]).random_raw(count // 8).astype("<u8").view(dtype).reshape(shape)
    if how["coding"] == "frames":
        return _decoded_frames(part, shape)
    raw = raw.reshape(dtype.itemsize, -1).T.reshape(-1)
    if how["equals"]:
        raw = raw ^ case[how["equals"]].reshape(-1).view(np.uint8)
    return np.ascontiguousarray(raw).view(dtype).reshape(shape)


def _sum(planes: list[NDArray], terms: list[tuple[int, int, int]], weights: NDArray, rows: slice) -> NDArray:
    """Weighted neighbours of some rows; planes are [C,H+3,W+2], the present frame and the two before."""
    width = planes[0].shape[2] - 2
    out = np.zeros((len(planes[0]), rows.stop - rows.start, width), np.int32)
    for (age, y, x), weight in zip(terms, weights, strict=True):
        out += weight * planes[age][:, 2 + y + rows.start : 2 + y + rows.stop, 1 + x : 1 + x + width]
    return out


def _padded(frame: NDArray) -> NDArray:
    return np.pad(frame, ((0, 0), (2, 1), (1, 1)), mode="edge")


def _coded_frames(frames: NDArray[np.uint8]) -> bytes:
    """Weights and differences; the weights are those that make the sum of the absolute differences small."""
    planes = np.moveaxis(frames.reshape(-1, *frames.shape[-3:]), -1, 1).astype(np.int32)
    one = two = np.zeros_like(_padded(planes[0]))
    parts = []
    for frame in planes:
        now = _padded(frame)
        now[:, :2] = one[:, :2]
        rows = slice(0, frame.shape[1])
        terms = [_sum([now, one, two], [term], np.ones(1, np.int32), rows).ravel() for term in FORMER + ABOVE]
        matrix, wanted = np.stack([*terms, np.full(frame.size, 128)], 1), frame.ravel()
        trust = np.ones(len(wanted))
        for _ in range(6):
            real = np.linalg.lstsq(matrix * trust[:, None], wanted * trust, rcond=None)[0]
            trust = np.maximum(np.abs(wanted - matrix @ real), 0.5) ** -0.6
        weights = np.rint(real * 2**SCALE).astype("<i2")
        differences = wanted - ((matrix @ weights.astype(np.int32)) >> SCALE)
        parts.append((weights.tobytes(), differences.astype(np.uint8).tobytes()))
        one, two = _padded(frame), one
    return b"".join(weights for weights, _ in parts) + b"".join(differences for _, differences in parts)


def _decoded_frames(part: bytes, shape: list[int]) -> NDArray[np.uint8]:
    *_, height, width, channels = shape
    count, terms = math.prod(shape) // (height * width * channels), len(FORMER + ABOVE) + 1
    all_weights = np.frombuffer(part, "<i2", count * terms).reshape(count, terms).astype(np.int32)
    differences = np.frombuffer(part, np.uint8, offset=2 * count * terms).reshape(count, channels, height, width)
    one = two = np.zeros((channels, height + 3, width + 2), np.int32)
    frames = []
    for weights, difference in zip(all_weights, differences, strict=True):
        former, above = weights[: len(FORMER)], weights[len(FORMER) : -1]
        known = _sum([one, one, two], FORMER, former, slice(0, height)) + 128 * weights[-1]
        now = one.copy()
        for y in range(height):
            predicted = known[:, y] + _sum([now], ABOVE, above, slice(y, y + 1))[:, 0]
            row = (difference[:, y] + (predicted >> SCALE)) & 255
            now[:, y + 2] = np.pad(row, ((0, 0), (1, 1)), mode="edge")
        frames.append(now[:, 2:-1, 1:-1])
        one, two = _padded(frames[-1]), one
    return np.moveaxis(np.stack(frames).astype(np.uint8), 1, -1).reshape(shape)


def pack(recorded: dict[str, dict[str, NDArray]]) -> bytes:
    index: dict[str, dict] = {}
    parts = []
    for name, fields in recorded.items():
        index[name] = {}
        for key, value in fields.items():
            if not value.ndim:
                index[name][key] = value.item()
                continue
            how = {"dtype": value.dtype.str, "shape": value.shape, "crc32": zlib.crc32(value.tobytes())}
            if name in RANDOM and key == "frames":
                part, how = b"", {**how, "coding": "random", "seed": RANDOM[name]}
            elif key == "frames":
                part, how = _coded_frames(value), {**how, "coding": "frames"}
            elif value.dtype == bool:
                part, how = np.packbits(value).tobytes(), {**how, "coding": "bits"}
            else:
                raw, equals = np.frombuffer(value.tobytes(), np.uint8), MOSTLY_EQUAL.get(key)
                if equals:
                    raw = raw ^ np.frombuffer(fields[equals].tobytes(), np.uint8)
                part, how = raw.reshape(-1, value.itemsize).T.tobytes(), {**how, "coding": "planes", "equals": equals}
            index[name][key] = {**how, "bytes": len(part)}
            parts.append(part)
    return lzma.compress(json.dumps(index).encode() + b"\n" + b"".join(parts), filters=FILTERS)


def recorded_results(folder: Path) -> dict[str, dict[str, NDArray]]:
    """What the tests read of the recorded files."""
    recorded = {}
    for path in sorted(folder.glob("*.npz")):
        with np.load(path, allow_pickle=False) as data:
            recorded[path.stem] = {key: data[key] for key in data.files if key not in LEFT_OUT[path.stem[0]]}
    return recorded


def main(folder: Path) -> None:
    recorded = recorded_results(folder)
    RESULTS.write_bytes(pack(recorded))
    cases = unpack()
    for name, fields in recorded.items():
        for key, value in fields.items():
            got = cases[name][key]
            if (got.dtype, got.shape, got.tobytes()) != (value.dtype, value.shape, value.tobytes()):
                raise SystemExit(f"{name}: {key} does not come back as it was")
    print(f"{len(cases)} cases, every value equal; {RESULTS.name} has {RESULTS.stat().st_size} bytes")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
