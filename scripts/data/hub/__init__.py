"""The Hugging Face hub: repositories (``repository``), fetching them (``job``), archives (``unpack``).

from scripts.data.hub.repository import fetch_file, repository
"""

import os

# Plain HTTP goes on where it stopped and stays with the mirror. The library's other protocol, Xet,
# has storage servers of its own, and users report that it begins interrupted files again. The
# library reads this once, when it is first imported: hence here, before any module.
os.environ.setdefault("HF_HUB_DISABLE_XET", "1")
