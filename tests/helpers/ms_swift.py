"""ms-swift's functions by one name each: 4 has moved and renamed them."""

try:
    from swift import SftArguments, get_model_processor, get_template, load_dataset
except ImportError:  # before ms-swift 4
    from swift.llm import TrainArguments as SftArguments
    from swift.llm import get_model_tokenizer as get_model_processor
    from swift.llm import get_template as get_template_of_type
    from swift.llm import load_dataset

    def get_template(processor, template_type, **options):
        return get_template_of_type(template_type, processor, **options)


__all__ = ["SftArguments", "get_model_processor", "load_dataset", "training_template"]


def training_template(model):
    """The template that stages 1 and 2 encode rows of ``model`` with."""
    _, processor = get_model_processor(str(model), load_model=False, model_type="qwen2_5_vl")
    system = "You are a helpful assistant."
    template = get_template(processor, template_type="qwen2_5_vl", default_system=system)
    template.set_mode("train")
    return template
