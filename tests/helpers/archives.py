"""Archives for the tests of fetching and unpacking."""

import io
import random
import tarfile
import zipfile

IMAGE = random.Random(1).randbytes(5000)  # as little compressible as an image


def archive(files, kind="zip"):
    """The bytes of an archive of name → content; a content of None is a symbolic link to /etc."""
    buffer = io.BytesIO()
    if kind == "zip":
        with zipfile.ZipFile(buffer, "w") as zipped:
            for name, content in files.items():
                entry = zipfile.ZipInfo(name)
                entry.compress_type = zipfile.ZIP_DEFLATED
                entry.external_attr = (0o120777 if content is None else 0o100644) << 16
                zipped.writestr(entry, content or b"/etc")
        return buffer.getvalue()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tarred:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content or b"")
            if content is None:
                entry.type, entry.linkname = tarfile.SYMTYPE, "/etc"
            tarred.addfile(entry, io.BytesIO(content or b""))
    return buffer.getvalue()
