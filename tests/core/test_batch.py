"""What asced_core.batch makes of a list, of a command line and of a workflow, before anything runs."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("PIL", reason="the packages of the extra batch are not installed")

from asced_core.batch.folder import Folder
from asced_core.batch.graph import find_places, read_graph
from asced_core.batch.jobs import LARGEST_SEED, Job, parse_seeds, read_jobs
from asced_core.batch.options import parsed
from asced_core.batch.pictures import Made

ROOT = Path(__file__).resolve().parents[2]


def _file(tmp_path, name, text):
    (tmp_path / name).write_text(text, encoding="utf-8")
    return tmp_path / name


# The list


def test_a_text_file_gives_each_prompt_with_each_seed(tmp_path):
    jobs = read_jobs(_file(tmp_path, "list.txt", "\ufeffa cat\n\n# not this\n  a dog \na cat\n"), parse_seeds("0-1, 5"))
    assert [(job.prompt, job.seed) for job in jobs] == [(p, s) for p in ("a cat", "a dog") for s in (0, 1, 5)]


def test_rows_of_csv_and_jsonl_are_the_same(tmp_path):
    csv = 'prompt,seed,negative,name\n"a cat, asleep",7,dog,first\na dog,,,\n'
    rows = [{"prompt": "a cat, asleep", "seed": 7, "negative": "dog", "name": "first"}, {"prompt": "a dog"}]
    jobs = read_jobs(_file(tmp_path, "list.csv", csv), [3])
    assert jobs == read_jobs(_file(tmp_path, "list.jsonl", "\n".join(map(json.dumps, rows))), [3])
    assert jobs == [Job("a cat, asleep", 7, "dog", "first"), Job("a dog", 3)]
    assert [job.name for job in jobs] == ["first", "3-a-dog"]


def test_names_depend_on_the_job_alone_and_differ():
    prompts = [
        "a cat",
        "A cat",
        "a, cat",
        "a-cat",
        "猫",
        "",
        "!",
        "a cat" + " on a mat" * 9,
        "a cat" + " on a mat" * 10,
    ]
    jobs = [Job(prompt, seed, negative) for prompt in prompts for seed in (0, 1) for negative in (None, "dog")]
    assert len({job.name.casefold() for job in jobs}) == len(jobs)
    assert jobs[0].name == "0-a-cat"
    assert all(len(job.name) < 60 and "/" not in job.name for job in jobs)


@pytest.mark.parametrize("text", ["", "a", "7-0", "-1", "1,,2", "0-99999999999999999999", str(LARGEST_SEED + 1)])
def test_seeds_that_are_none_are_refused(text):
    with pytest.raises(ValueError, match="Seeds must look like 0-7 or 0,1,5"):
        parse_seeds(text)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.txt", "# nothing\n", "holds no prompt"),
        ("a.jsonl", '{"promt": "a"}', r"a.jsonl, line 1: unknown field 'promt'; the fields are prompt, seed"),
        ("a.jsonl", '{"seed": 1}', "line 1: the field prompt is missing"),
        ("a.jsonl", '{"prompt": "a"}\n{', "line 2: this is not JSON"),
        ("a.jsonl", '["a"]', "line 1: expected an object such as"),
        ("a.jsonl", '{"prompt": 7}', "line 1: prompt must be text, got 7"),
        (
            "a.jsonl",
            '{"prompt": "a", "seed": -1}',
            "seed must be a whole number from 0 to 18446744073709551615, got -1",
        ),
        ("a.jsonl", '{"prompt": "a", "seed": true}', "seed must be a whole number"),
        ("a.jsonl", '{"prompt": "a", "name": "../a"}', "a name may have letters, digits"),
        (
            "a.jsonl",
            '{"prompt": "a", "name": "x"}\n{"prompt": "b", "name": "X"}',
            "line 2: another job is named X, too",
        ),
        ("a.csv", "prompt,seed\na, b,7\n", "line 2: too many columns"),
        ("a.csv", "prompt,seed\na,7.5\n", "line 2: seed must be a whole number"),
        ("missing.csv", None, "Could not read the list"),
    ],
)
def test_a_wrong_list_gets_one_sentence(tmp_path, name, text, message):
    file = tmp_path / name if text is None else _file(tmp_path, name, text)
    with pytest.raises(ValueError, match=message):
        read_jobs(file)


# The workflow


def _node(kind, title="", **inputs):
    return {"class_type": kind, "inputs": inputs, **({"_meta": {"title": title}} if title else {})}


def _classic():
    """As ComfyUI's default workflow, with ASCED KSampler and a ControlNet."""
    return {
        "4": _node("CheckpointLoaderSimple", ckpt_name="a.safetensors"),
        "6": _node("CLIPTextEncode", text="a cat", clip=["4", 1]),
        "7": _node("CLIPTextEncode", text="dog", clip=["4", 1]),
        "10": _node("ControlNetApplyAdvanced", positive=["6", 0], negative=["7", 0], strength=1.0, image=["11", 0]),
        "11": _node("LoadImage", image="prompt.png"),
        "3": _node("ASCED_KSampler", seed=5, model=["4", 0], positive=["10", 0], negative=["10", 1]),
        "8": _node("VAEDecode", samples=["3", 0], vae=["4", 2]),
        "9": _node("ASCED_SaveReport", image=["8", 0], report=["3", 2], filename_prefix="a"),
    }


def _flux():
    """Seed and guidance in nodes of their own, the prompt in another node's text."""
    return {
        "1": _node("RandomNoise", noise_seed=5),
        "2": _node("PrimitiveString", value="a cat"),
        "3": _node("CLIPTextEncode", text=["2", 0], clip=["9", 0]),
        "4": _node("FluxGuidance", conditioning=["3", 0], guidance=3.5),
        "5": _node("BasicGuider", model=["8", 0], conditioning=["4", 0]),
        "6": _node("SamplerCustomAdvanced", noise=["1", 0], guider=["5", 0]),
        "7": _node("SaveImage", images=["6", 0]),
    }


def test_prompt_negative_and_seed_are_found_from_the_sampler():
    graph = _classic()
    filled = find_places(graph).filled(Job("a bird", 9, "bad"))
    assert filled["6"]["inputs"]["text"] == "a bird" and filled["7"]["inputs"]["text"] == "bad"
    assert filled["3"]["inputs"]["seed"] == 9
    kept = find_places(graph).filled(Job("a bird", 9))
    assert kept["7"]["inputs"]["text"] == "dog"
    assert graph == _classic()


def test_a_view_is_added_for_the_masks_unless_the_graph_has_its_own():
    added = find_places(_classic())
    assert added.graph[added.view] == _node("ASCED_MaskPreview", report=["3", 2], image=["8", 0])
    own = {**_classic(), "12": _node("ASCED_MaskPreview", report=["3", 2], grow_px=8)}
    assert find_places(own).view == "12" and find_places(own).graph == own
    assert find_places(_flux()).view == ""


def test_seed_and_prompt_behind_links_are_found():
    filled = find_places(_flux()).filled(Job("a bird", 9))
    assert filled["1"]["inputs"]["noise_seed"] == 9
    assert filled["2"]["inputs"]["value"] == "a bird" and filled["3"]["inputs"]["text"] == ["2", 0]


def test_both_texts_of_a_pair_of_encoders_are_set_and_the_second_pass_adds_no_noise():
    graph = {
        "6": _node("CLIPTextEncodeSDXL", text_g="a", text_l="b", width=1024),
        "7": _node("ConditioningZeroOut", conditioning=["6", 0]),
        "3": _node("KSamplerAdvanced", add_noise="enable", noise_seed=1, positive=["6", 0], negative=["7", 0]),
        "5": _node("KSamplerAdvanced", add_noise="disable", noise_seed=2, positive=["6", 0], negative=["7", 0]),
    }
    form = find_places(graph)
    filled = form.filled(Job("a bird", 9))
    assert filled["6"]["inputs"]["text_g"] == filled["6"]["inputs"]["text_l"] == "a bird"
    assert (filled["3"]["inputs"]["noise_seed"], filled["5"]["inputs"]["noise_seed"]) == (9, 2)
    with pytest.raises(ValueError, match="no one place for a negative prompt: name its node with --negative-node"):
        form.filled(Job("a bird", 9, "bad"))


def test_several_candidates_are_listed_and_one_can_be_named():
    graph = _classic()
    graph["13"] = _node("CLIPTextEncode", "second prompt", text="a dog")
    graph["14"] = _node("KSampler", "second pass", seed=6, positive=["13", 0], negative=["7", 0])
    with pytest.raises(ValueError, match=r"several nodes for the positive prompt: 13 \(second prompt\), 6 \(CLIPText"):
        find_places(graph)
    with pytest.raises(ValueError, match=r"several nodes for the seed: 14 \(second pass\), 3 .*--seed-node ID"):
        find_places(graph, prompt_node="6")
    form = find_places(graph, ["3", "14.seed"], "6")
    filled = form.filled(Job("a bird", 9, "bad"))
    assert (filled["3"]["inputs"]["seed"], filled["14"]["inputs"]["seed"]) == (9, 9)
    assert filled["13"]["inputs"]["text"] == "a dog"


@pytest.mark.parametrize(
    ("named", "message"),
    [
        ({"prompt_node": "66"}, "--prompt-node: there is no node 66 in the graph; its nodes are 4"),
        ({"prompt_node": "6.words"}, "--prompt-node: node 6 has no input words; it has text, clip"),
        ({"prompt_node": "8"}, r"say which input of node 8, as 8.INPUT; it has samples, vae"),
        ({"image_node": "99"}, "--image-node: there is no node 99"),
    ],
)
def test_a_wrongly_named_node_gets_one_sentence(named, message):
    with pytest.raises(ValueError, match=message):
        find_places(_classic(), **named)


@pytest.mark.parametrize("text", ["{", "{}", "[]", '{"nodes": [], "links": []}'])
def test_a_workflow_in_another_format_gets_one_sentence(tmp_path, text):
    with pytest.raises(
        ValueError, match=r"Could not read the workflow|is no workflow in API format: in ComfyUI, choose"
    ):
        read_graph(_file(tmp_path, "graph.json", text))


# The command line


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "Name what makes the images: either --pipeline, or one --server or more."),
        (["--pipeline", "a", "--server", "b"], "Name what makes the images"),
        (["--server", "a"], "--server needs --workflow"),
        (
            ["--server", "a", "--correct", "none"],
            "--correct is for pipelines: with --server, the nodes of the workflow",
        ),
        (["--server", "a", "--workers", "2"], "--workers is for pipelines: leave it out."),
        (["--server", "ftp://a", "--workflow", "GRAPH"], "--server must be an address such as http://127.0.0.1:8188"),
        (["--pipeline", "a", "--workflow", "b"], "--workflow is for servers: leave it out."),
        (["--pipeline", "a", "--workers", "0"], "--workers must be 1 or more, got 0."),
        (["--pipeline", "a", "--threshold", "-1"], "--threshold must be a number 0 or more, got -1.0."),
        (["--pipeline", "a", "--options", "[1]"], "--options must be a JSON object"),
        (["--pipeline", "a", "--options", '{"prompt": "b"}'], "The option prompt is set for each image by the batch"),
        (["--pipeline", "a:b", "--dtype", "float16"], "--dtype is for pipelines that are loaded by name"),
        (["--pipeline", "a", "--seeds", "x"], "Seeds must look like"),
    ],
)
def test_a_wrong_option_gets_one_sentence(tmp_path, capsys, words, message):
    graph = _file(tmp_path, "graph.json", json.dumps(_classic()))
    words = [str(graph) if word == "GRAPH" else word for word in words]
    with pytest.raises(SystemExit) as end:
        parsed([str(_file(tmp_path, "list.txt", "a cat")), "--out", str(tmp_path / "out"), *words])
    said = capsys.readouterr().err
    assert end.value.code == 2
    assert said.startswith(f"asced batch: {message}") and said.count("\n") == 1


def test_servers_are_named_in_any_form_and_once(tmp_path):
    graph = _file(tmp_path, "graph.json", json.dumps(_classic()))
    jobs = _file(tmp_path, "list.txt", "a cat")
    servers = ["127.0.0.1:8188", "http://127.0.0.1:8188/", "box", "https://far.example/comfy"]
    words = [word for server in servers for word in ("--server", server)]
    plan = parsed([str(jobs), "--out", str(tmp_path), "--workflow", str(graph), *words])
    assert [setup.address for setup in plan.setups] == [
        "http://127.0.0.1:8188", "http://box:8188", "https://far.example/comfy",
    ]  # fmt: skip


def test_a_missing_package_is_named_with_what_to_do(tmp_path):
    """Also where a mere folder has the package's name, as /tmp/ray has."""
    (tmp_path / "ray").mkdir()
    code = f"import sys; sys.path = [p for p in sys.path if 'ray' not in p] + [{str(tmp_path)!r}]\n"
    code += "import importlib.util as u; find = u.find_spec\n"
    code += "u.find_spec = lambda name: None if name == 'tqdm' else find(name)\n"
    code += "from asced_core.batch.__main__ import main; sys.exit(main([]))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("asced batch: A batch needs more packages: `pip install ") and "tqdm" in done.stderr


# The folder


def test_a_job_is_done_once_its_last_file_is_there(tmp_path):
    folder, job = Folder(tmp_path / "out", {"workflow": 1}), Job("a cat", 0)
    assert not folder.is_done(job)
    report = json.dumps({"images": [{"flagged": True, "corrected": False}]})
    folder.save(job, [Made(b"first", b"mask", report), Made(b"second")])
    assert folder.is_done(job)
    totals = folder.finish([job, Job("a dog", 0)], {})
    assert str(totals) == "2 images, 1 marked, 0 corrected, 1 without a report, 0 failed"
    files = {file.name for file in (tmp_path / "out").iterdir()}
    assert files == {
        "0-a-cat.png", "0-a-cat.mask.png", "0-a-cat.json", "0-a-cat.2.png", "batch.json", "index.jsonl",
    }  # fmt: skip
    Folder(tmp_path / "out", {"workflow": 1})
    with pytest.raises(ValueError, match="holds images made with another workflow: choose another --out"):
        Folder(tmp_path / "out", {"workflow": 2})
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match="Could not write to the folder"):
        Folder(tmp_path / "file", {})
