"""Make ms-swift look up the image token id instead of assuming the released models' one.

ms-swift's Qwen2-VL template hard-codes image_token_id = 151655 and video_token_id = 151656.
With another vocabulary it finds no image token to expand, leaves a single one per image,
and trains on without a word. With the released models nothing changes.

    swift sft --custom_register_path train/swift_image_tokens.py …
"""

from swift.llm.template.template.qwen import Qwen2VLTemplate


def _token_id(token: str) -> property:
    return property(lambda template: template.tokenizer.convert_tokens_to_ids(token))


Qwen2VLTemplate.image_token_id = _token_id("<|image_pad|>")
Qwen2VLTemplate.video_token_id = _token_id("<|video_pad|>")
