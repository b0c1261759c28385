"""What the encode tool tells of the pictures or videos that it has read."""

from skipdit_jax.data.latent_files import Manifest

MOST_CLASSES, MOST_BROKEN = 10, 20
"""Told one by one; `latents.json` has all of them."""


def describe_source(manifest: Manifest, views: int, what: str) -> str:
    """How many of each class were read, and which were broken.

    Args:
      manifest: of the finished folder.
      views: examples of each picture.
      what: "pictures" or "clips".
    """
    counts = [count // views for count in manifest.class_counts]
    names = [*manifest.classes] + [str(n) for n in range(len(manifest.classes), len(counts))]
    counts += [0] * (len(names) - len(counts))
    line = f"read     {sum(counts)} {what}"
    if manifest.classes or len(counts) > 1:
        pairs = zip(names[:MOST_CLASSES], counts[:MOST_CLASSES], strict=True)
        told = [f"{name} {count}" for name, count in pairs]
        more = ["..."] * (len(names) > MOST_CLASSES)
        line += f" of {len(names)} classes: {', '.join(told + more)}"
    return "\n".join([line, *_broken(manifest, what)])


def _broken(manifest: Manifest, what: str) -> list[str]:
    skipped = manifest.skipped
    if not skipped:
        return []
    told = [f"         {name}: {reason}" for name, reason in skipped[:MOST_BROKEN]]
    more = len(skipped) - MOST_BROKEN
    return [
        f"skipped  {len(skipped)} broken {what}:",
        *told,
        *([f"         and {more} more, see latents.json"] if more > 0 else []),
    ]
