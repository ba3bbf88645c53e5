"""A response in the five steps that the model is trained to give."""

from train.cus_reward import STEPS


def response(answer="awe", confidence="0.8", steps=STEPS):
    thought = "".join(f"<{step}>\nx\n</{step}>" for step in steps)
    return f"<think>{thought}</think>\n<answer>{answer}</answer>\n<confidence>{confidence}</confidence>"
