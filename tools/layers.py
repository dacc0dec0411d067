"""Which folder of src/ may include which, and which heavy libraries may be included where.

The table is the architecture: ARCHITECTURE.md shows it as a picture, tools/tidy enforces it.
"""
import re

# Each folder lists the folders directly below it; what those may include is allowed too.
BELOW = {
    "base": [],
    "wire": ["base"],
    "forward": ["wire"],
    "identity": ["wire"],
    "session": ["identity", "forward"],
    "gateway": ["identity"],
    "lab": ["gateway"],
    "host": ["base"],
    "runtime": ["session", "host"],
    "services": ["runtime", "lab"],
    "node": ["services"],
    "cli": ["node"],
}
PURE = ["base", "wire", "forward", "identity", "session", "gateway", "lab"]

# Libraries that only some folders (or files, as a prefix) may include, and why the others may not.
LIBRARIES = [
    (re.compile(r"<(ngtcp2|nghttp3)/"), ["session"], "QUIC stays behind session's headers"),
    (re.compile(r"<gnutls/"), ["identity", "session"], "TLS stays behind identity and session"),
    (re.compile(r"<boost/beast"), ["services/http"], "Beast takes 11 to 31 s to compile"),
    (re.compile(r"<boost/asio"), ["host", "runtime", "services", "node", "cli"], "pure code has no loop"),
    (re.compile(r"<spdlog/"), ["host"], "log through base/log.h"),
    (re.compile(r"<CLI/"), ["cli"], "arguments are the command line's business"),
    (re.compile(r"<toml(\+\+|plusplus)?[/.]"), ["node"], "configuration is read in node alone"),
    (re.compile(r"<prometheus/"), ["services", "node"], "metrics are a service"),
    (re.compile(r"<(sys/(socket|epoll|un|ioctl|mman)|net/if|linux/|unistd|fcntl|poll|pthread|"
                r"thread|mutex|fstream|filesystem|random|ctime|time)(\.h)?>?"),
     ["host", "runtime", "services", "node", "cli"], "pure folders have no OS, clock, thread, randomness"),
]

INCLUDE = re.compile(r'^\s*#\s*include\s+(?:"(?P<own>[^"]+)"|(?P<library><[^>]+>))', re.M)


def allowed_below(folder):
    """Every folder that `folder` may include, itself too."""
    reachable, waiting = set(), [folder]
    while waiting:
        current = waiting.pop()
        if current not in reachable:
            reachable.add(current)
            waiting.extend(BELOW[current])
    return reachable


def check_includes(path, source):
    """Yields (line, text) for each include of a file below src/ that goes against the tables. Tests may use
    anything below their own folder, and any library."""
    if len(path.parts) < 3 or path.parts[0] != "src":
        return
    folder = path.parts[1]
    if folder not in BELOW:
        yield 1, f"folder src/{folder} is in no layer: add it to tools/layers.py and ARCHITECTURE.md"
        return
    inside = "/".join(path.parts[1:])
    allowed = allowed_below(folder)
    for match in INCLUDE.finditer(source):
        line = source.count("\n", 0, match.start()) + 1
        own = match.group("own")
        if own:
            target = own.split("/")[0]
            if "/" in own and target in BELOW and target not in allowed:
                yield line, f"src/{folder} includes {own}: {target} is not below it (tools/layers.py)"
            continue
        if path.name.endswith("_test.cpp"):
            continue
        for library, owners, reason in LIBRARIES:
            name = match.group("library")
            if library.match(name) and not any(inside.startswith(owner) for owner in owners):
                yield line, f"{name} only in {', '.join(owners)}: {reason}"
