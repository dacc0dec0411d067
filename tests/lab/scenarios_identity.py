"""Who may talk to whom: other authorities, revocation, joining, pinned peers."""
import shutil
import time

from lab import wait_until
from nodes import NETWORK, Node, issue_to, make_pair, serve, web_exposure

# A revocation cuts a live session within 5 s; tests allow five times a target.
CUT_LIMIT_S = 25


def join_with_a_code(lab):
    """Three commands: ca init on one machine, invite there, join on the other."""
    a, b = lab.namespace("a"), lab.namespace("b")
    lab.wire(a, "eth0", "10.77.0.1/24", b, "eth0", "10.77.0.2/24")
    alpha, bravo = Node(lab, a, "alpha"), Node(lab, b, "bravo")
    alpha.cli("ca", "init", "--network", NETWORK, "--name", "alpha")
    alpha.configure()
    alpha.start()
    code = alpha.query("invite", "bravo")["code"]
    bravo.cli("join", "--no-up", code)
    bravo.configure(expose=[web_exposure()])
    serve(bravo, **{"index.html": "joined\n"})
    bravo.start()
    # Nobody dials by hand: bravo makes itself known to the issuer's node when it starts.
    wait_until("alpha to hear of bravo", lambda: alpha.query("sessions")["sessions"], 10)
    assert alpha.fetch("http://bravo.fuse/").stdout == "joined\n"
    again = Node(lab, b, "mallory").cli("join", "--no-up", code, check=False)
    assert again.returncode != 0, "a code works once"


def a_member_renews_by_hand(lab):
    """`ca renew` works where the authority is, and on a member as long as the issuer's node answers."""
    alpha, bravo = make_pair(lab)
    alpha.start()
    bravo.start()
    assert alpha.cli("ping", "-n", 1, "bravo").returncode == 0

    def expiry(node):
        return node.query("status")["networks"][0]["certificate"]["not_after_unix"]

    before = {node: expiry(node) for node in (alpha, bravo)}
    alpha.cli("ca", "lifetime", "60d")
    for node in (alpha, bravo):
        answer = node.query("ca", "renew")
        assert answer["not_after_unix"] == expiry(node) > before[node] + 29 * 86400, answer
    assert bravo.cli("ping", "-n", 1, "alpha").returncode == 0
    alpha.stop()
    away = bravo.cli("ca", "renew", check=False)
    assert away.returncode == 4 and "not renewed" in away.stderr, away

def revocation_cuts_a_live_session(lab):
    """Revoking a member ends its running session and its later dials, and leaves others alone."""
    alpha, bravo = make_pair(lab)
    serve(bravo, **{"index.html": "member\n"})
    bravo.start()
    alpha.start()
    assert alpha.fetch("http://bravo.fuse/").stdout == "member\n"
    start = time.monotonic()
    alpha.cli("ca", "revoke", "bravo")
    wait_until("the session is cut", lambda: alpha.session_to("bravo") is None, CUT_LIMIT_S)
    print(f"cut {time.monotonic() - start:.2f} s after the revocation")
    assert alpha.fetch("http://bravo.fuse/", check=False).returncode != 0
    assert bravo.cli("ping", "-n", 1, "alpha", check=False, timeout=40).returncode != 0


def another_authority_is_refused(lab):
    """A node whose certificate comes from another authority gets nowhere, and both logs say why."""
    alpha, bravo = make_pair(lab)
    bravo.cli("ca", "init", "--network", "other", "--name", "bravo")
    shutil.rmtree(bravo.state / "networks" / NETWORK)
    serve(bravo, **{"index.html": "stranger\n"})
    bravo.start()
    alpha.start()
    assert alpha.fetch("http://bravo.fuse/", check=False).returncode != 0
    assert not alpha.sessions()


def certificate_of_another_key_refuses_to_start(lab):
    """A certificate that does not belong to the key beside it stops the start."""
    alpha, bravo = make_pair(lab)
    issue_to(alpha, Node(lab, bravo.space, "charlie"))
    shutil.copy(lab.folder / "charlie" / "state" / "networks" / NETWORK / "cert.crt",
                bravo.state / "networks" / NETWORK / "cert.crt")
    outcome = bravo.space.run(*bravo.command("up", "-c", bravo.config), check=False, timeout=15)
    assert outcome.returncode > 0 and "cert.crt" in outcome.stdout + outcome.stderr, outcome
