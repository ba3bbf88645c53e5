"""Notes what a process, and each that it starts, asks CUDA before vLLM takes over; works without a GPU."""

import os

from tests.helpers.commands import REPO

# Run by every Python that starts with this file on its path. Torch's questions to the driver go through three
# functions; counting devices is harmless while vLLM's variable is set, for then the driver's library is asked.
SITE = """
import importlib.abc, importlib.util, os, sys, traceback

def note(what):
    with open(os.environ["CUDA_QUESTIONS"], "a") as handle:
        handle.write(" ".join(what.split()) + "\\n")

def record(owner, name):
    original = getattr(owner, name)
    def recorded(*args, **kwargs):
        if name != "_cuda_getDeviceCount" or os.environ.get("PYTORCH_NVML_BASED_CUDA_CHECK") != "1":
            note(f"asked {name}: " + "".join(traceback.format_stack(limit=6)[:-1]))
        return original(*args, **kwargs)
    setattr(owner, name, recorded)

def torch_imported(torch):
    record(torch._C, "_cuda_getDeviceCount")
    record(torch._C, "_cuda_init")
    record(torch.cuda, "_lazy_init")

def llm_imported(module):
    original = module.LLM.__init__
    def init(self, *args, **kwargs):
        note("reached LLM")
        original(self, *args, **kwargs)
    module.LLM.__init__ = init

def stop(execute, module):
    note("reached vllm")
    raise ImportError("the test ends here")

def then(after):
    def run(execute, module):
        execute(module)
        after(module)
    return run

hooks = {"torch": then(torch_imported), "vllm.entrypoints.llm": then(llm_imported)}
if os.environ["CUDA_QUESTIONS_UNTIL"] == "vllm":
    hooks["vllm"] = stop

class Finder(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name not in hooks:
            return None
        hook = hooks.pop(name)
        spec = importlib.util.find_spec(name)
        execute = spec.loader.exec_module
        spec.loader.exec_module = lambda module: hook(execute, module)
        return spec

sys.meta_path.insert(0, Finder())
"""


class CudaRecorder:
    """``environment`` for a command, and the ``lines`` noted so far; ``until="vllm"`` ends it when it imports vLLM."""

    def __init__(self, folder, until="the end"):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "sitecustomize.py").write_text(SITE)
        self.notes = folder / "questions.txt"
        known = {name: value for name, value in os.environ.items() if name != "PYTORCH_NVML_BASED_CUDA_CHECK"}
        self.environment = {
            **known, "PYTHONPATH": f"{folder}{os.pathsep}{REPO}", "CUDA_QUESTIONS": str(self.notes),
            "CUDA_QUESTIONS_UNTIL": until,
        }  # fmt: skip

    def before(self, reached):
        """What was noted before the line ``reached``, which must be there."""
        lines = self.notes.read_text().splitlines() if self.notes.exists() else []
        assert reached in lines, lines
        return lines[: lines.index(reached)]
