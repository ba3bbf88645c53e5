"""Two corrections of ms-swift, which imports this file: swift sft --custom_register_path train/swift_plugins.py …

Code of a model: ms-swift tells transformers to trust every model's Python code, and has no option against it. The
models of this project need none. ``TRUST_REMOTE_CODE=true`` in the environment lets it run (trust_remote_code=true of
the templates).

Image tokens: ms-swift's Qwen2-VL template hard-codes image_token_id = 151655 and video_token_id = 151656. With another
vocabulary it finds no image token to expand, leaves a single one per image, and trains on without a word. Here the
tokenizer is asked; with the released models nothing changes.
"""

import os

from transformers import dynamic_module_utils

try:
    from swift.template.templates.qwen import Qwen2VLTemplate
except ImportError:  # before ms-swift 4
    from swift.llm.template.template.qwen import Qwen2VLTemplate


def _refuse(repository, module_file, *_, **__):
    raise ValueError(f"{repository} asks to run its own {module_file}: set trust_remote_code=true if you have read it")


if os.environ.get("TRUST_REMOTE_CODE", "false") != "true":
    # All of transformers' ways to a model's code lead through here.
    dynamic_module_utils.get_cached_module_file = _refuse


def _token_id(token: str) -> property:
    return property(lambda template: template.tokenizer.convert_tokens_to_ids(token))


Qwen2VLTemplate.image_token_id = _token_id("<|image_pad|>")
Qwen2VLTemplate.video_token_id = _token_id("<|video_pad|>")
