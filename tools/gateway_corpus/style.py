"""How people write the same JSON: compact, spaced, indented, keys sorted or not."""
import json


def reorder(value, how):
    """The same value with keys as written ('kept') or sorted."""
    if isinstance(value, list):
        return [reorder(v, how) for v in value]
    if not isinstance(value, dict):
        return value
    keys = sorted(value) if how == "sorted" else list(value)
    return {k: reorder(value[k], how) for k in keys}


def optional(value, rng, chance):
    """Keys that end in '?' lose the mark, and with 1 - chance the member is dropped."""
    if isinstance(value, list):
        return [optional(v, rng, chance) for v in value]
    if not isinstance(value, dict):
        return value
    kept = {}
    for k, v in value.items():
        if k.endswith("?"):
            if rng.random() >= chance:
                continue
            k = k[:-1]
        kept[k] = optional(v, rng, chance)
    return kept


def inline_lists(text_value, indent, level=0):
    """Indented JSON in which short lists of plain values stay on one line, as people write them by hand."""
    pad, inner = " " * (indent * level), " " * (indent * (level + 1))
    if isinstance(text_value, dict) and text_value:
        rows = [
            inner + json.dumps(k, ensure_ascii=False) + ": " + inline_lists(v, indent, level + 1)
            for k, v in text_value.items()
        ]
        return "{\n" + ",\n".join(rows) + "\n" + pad + "}"
    if isinstance(text_value, list) and any(isinstance(v, (dict, list)) for v in text_value):
        return (
            "[\n"
            + ",\n".join(inner + inline_lists(v, indent, level + 1) for v in text_value)
            + "\n"
            + pad
            + "]"
        )
    return json.dumps(text_value, ensure_ascii=False)


# Machines write compact JSON, people and examples do not; every style costs room in the model's tables.
STYLES = ["compact"] * 90 + ["spaced"] * 4 + ["pretty2"] * 2 + ["pretty4"] * 2 + ["hand2"] + ["quoted"]


def write(value, style, rng):
    if style == "compact":
        return json.dumps(value, separators=(",", ":"), ensure_ascii=False)
    if style == "spaced":
        return json.dumps(value, ensure_ascii=False)
    if style.startswith("pretty"):
        return json.dumps(value, indent=int(style[-1]), ensure_ascii=False) + (
            "\n" if rng.random() < 0.2 else ""
        )
    if style.startswith("hand"):
        return inline_lists(value, int(style[-1]))
    # 'quoted': cut out of a source file, where every line carries the surrounding indentation.
    margin = " " * rng.choice([4, 8, 8, 12, 12, 16])
    lines = json.dumps(value, indent=rng.choice([4, 4, 2]), ensure_ascii=False).split("\n")
    return (
        rng.choice(["", "\n" + margin])
        + ("\n" + margin).join(lines)
        + rng.choice(["", "\n" + margin[4:], "\n"])
    )


def write_any(value, rng):
    order = rng.choice(["kept"] * 7 + ["sorted"] * 2)
    return write(reorder(value, order), rng.choice(STYLES), rng)


def write_short(value, rng):
    order = rng.choice(["kept", "kept", "kept", "sorted"])
    return write(reorder(value, order), rng.choice(["compact"] * 9 + ["spaced"]), rng)
