"""Keep ms-swift from running Python code that comes with a model.

ms-swift tells transformers to trust every model's code, and has no option against it. The models of
this project need none. ``TRUST_REMOTE_CODE=true`` in the environment lets it run (trust_remote_code=true of the
templates).

    swift sft --custom_register_path train/no_remote_code.py …
"""

import os

from transformers import dynamic_module_utils


def _refuse(repository, module_file, *_, **__):
    raise ValueError(f"{repository} asks to run its own {module_file}: set trust_remote_code=true if you have read it")


if os.environ.get("TRUST_REMOTE_CODE", "false") != "true":
    # All of transformers' ways to a model's code lead through here.
    dynamic_module_utils.get_cached_module_file = _refuse
