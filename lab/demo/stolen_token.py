"""``make demo SCENARIO=stolen-token``: what a NetworkPolicy does not end, and the way back.

Argo CD delivers the bank from Git and heals what others change. The attacker holds a connection open, which outlives
the cut on the network (flows are kept, as many network plugins do), and has a stolen token. Every row of the statement
is driven to dead or taken on by a named person; then the approved commit brings the service back, without the hole.
Exit code 0 only if all of that was seen by those whom it concerns.
"""

from __future__ import annotations

import json
import subprocess
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from lab import attack, bank, client, gitops, lifecycle
from lab.argocd_controller import API_VERSION as ARGOCD
from lab.argocd_controller import NAMESPACE as ARGOCD_NAMESPACE
from lab.attacker import exploit
from lab.bank.deploy import manifests
from lab.demo import felt, people
from lab.demo.common import (
    Json,
    Place,
    attackers_view,
    deliver,
    destroyed_before_seal,
    heading,
    prepare,
    program,
    query,
    ringfence,
    rows,
    seconds_to_cut,
    verify,
    words,
)
from lab.images import MENDED_BANK, PYTHON
from lab.kube import Kube, Object, is_ready
from lab.layout import Lab

CALM_SECONDS = 3.0
ATTACK_SECONDS = 4.0
QUIET_SECONDS = 5.0
WINDOW = "20s"
APPLICATION = "bank"
CAUSE = "the statement service of cards evaluated what a caller wrote"
LESSON = "a template of a caller's is data: statements fill in names, and nothing else"
DNS_POLICY: Json = {
    # It selects every pod but those that are marked, whatever a cut does to the other labels. Argo CD minds a change.
    "apiVersion": "networking.k8s.io/v1",
    "kind": "NetworkPolicy",
    "metadata": {"name": "dns-for-all", "namespace": bank.NAMESPACE},
    "spec": {
        "podSelector": {"matchExpressions": [{"key": "no-dns", "operator": "DoesNotExist"}]},
        "policyTypes": ["Egress"],
        "egress": [{"ports": [{"port": 53, "protocol": "UDP"}]}],
    },
}
TAKEN_ON = {
    "siblings.image": "the same image runs elsewhere in the bank; its hole is in the cards service alone",
    "siblings.account": "its other pods are replaced by the approved commit",
    "persistence": "the audit log was read from the attack on: the account has made nothing",
    "node": "nothing of the pod reached into its node, and the node was looked at",
}


@dataclass
class Seen:
    """What was seen on the way: the screen's verdict and the attacker's view after each step."""

    verdicts: dict[str, str] = field(default_factory=dict)
    attacker: dict[str, Json] = field(default_factory=dict)
    first: Json = field(default_factory=dict)
    began: float = 0.0
    commit: str = ""
    hole_open: bool = True
    calls: list[client.Call] = field(default_factory=list)


def run(name: str, place: Place) -> int:
    heading("1. A real Kubernetes, and a small bank that Argo CD delivers from Git")
    lab = lifecycle.up(name, flows="kept", with_profiles=["argocd"])
    kube = Kube.of(lab)
    withdraw(lab, kube)
    bank.reset(lab)
    delivered = gitops.deliver(lab, kube, bank.NAMESPACE, wanted())
    policy_before = sync_policy(kube)
    settings: dict[str, Json] = {
        "node_helper": {"enabled": True, "image": PYTHON, "image_pull_policy": "Never"},
        "identity": {"legacy_tokens": True},
        "audit": {"log": str(lab.audit_log)},
    }
    prepare(lab, place, settings)
    prepare(lab, place, {**settings, "cluster": {"kubeconfig": str(people.appoint(lab, kube, place))}})
    try:
        with client.Customer(bank.gateway_url(lab)) as customer:
            time.sleep(CALM_SECONDS)
            seen = respond(lab, kube, place, delivered.repository)
            customer.stop()
            seen.calls = customer.calls
        attack.stop(lab)
        heading("8. Evidence and report")
        ringfence(
            place, "close", "INC-1", "--root-cause", CAUSE, "--lesson", LESSON, "--determination", "security-incident"
        )
        bundle = deliver(place)
        checks = {
            **checked(lab, kube, place, seen, policy_before),
            "the seal verifies": verify(place, bundle),
            "timeline and the cluster's audit log agree": audited(lab, place),
        }
        return report(place, seen, checks)
    finally:
        withdraw(lab, kube)
        kube.close()


def wanted() -> list[Object]:
    """The bank as Git has it."""
    return [*(one for one in manifests() if one["kind"] != "Namespace"), DNS_POLICY]


def withdraw(lab: Lab, kube: Kube) -> None:
    """Take the Application away; what it delivered stays."""
    if kube.find(ARGOCD, "Application", APPLICATION, ARGOCD_NAMESPACE) is not None:
        repository = lab.argocd / "git" / bank.NAMESPACE
        gitops.withdraw(kube, gitops.Delivered(bank.NAMESPACE, APPLICATION, repository, None))


def respond(lab: Lab, kube: Kube, place: Place, repository: Any) -> Seen:
    seen = Seen()
    heading("2. An attack through the bank's front door")
    hostile = attack.beacon(lab)
    print(
        f"pod {hostile.pod} is hostile: it holds a connection to {lab.attacker_address} open, and has sent out its own"
    )
    print("token, with which the attacker calls the API server from his own host.")
    time.sleep(ATTACK_SECONDS)

    def look(step: str, seconds: float = 2.0) -> None:
        time.sleep(seconds)
        seen.verdicts[step] = query(place, "status", "INC-1", "-o", "json")["verdict"]
        seen.attacker[step] = attackers_view(lab, hostile, seen.began)
        print(f"\nthe attacker's host: {words(seen.attacker[step])}")

    heading("3. Contain: new traffic is cut, and that is not all")
    seen.began = time.time()
    ringfence(place, "contain", f"pod/{hostile.pod}", "-n", bank.NAMESPACE, "--reason", "a token was used elsewhere")
    look("contain", QUIET_SECONDS)
    seen.first = query(place, "status", "INC-1", "-o", "json")

    heading("4. Cut the identity: what the token writes is refused at once")
    ringfence(place, "cut-identity", "INC-1")
    look("cut-identity")

    heading("5. Cut on the node: the open connection dies, the pod and its memory live")
    with people.rights_of_node_helper(kube, place):
        ringfence(place, "node", "INC-1", "on", "--reason", "a connection that outlives the fence")
        ringfence(place, "node", "INC-1", "cut")
        ringfence(place, "node", "INC-1", "off", "--reason", "cut")
    look("node-cut", QUIET_SECONDS)

    heading("6. Eradicate the sealed suspect; take on, by name, what no cluster can show")
    ringfence(place, "eradicate", "INC-1")
    look("eradicate")
    for row in query(place, "status", "INC-1", "-o", "json")["rows"]:
        if row["state"] in ("alive", "unseen") and row["path"] in TAKEN_ON:
            ringfence(place, "accept", "INC-1", row["path"], "--reason", TAKEN_ON[row["path"]])

    heading("7. Come back: the template still has the hole, and the first gate that is shut says so")
    ringfence(place, "recover", "INC-1", code=3)
    seen.commit = mend(repository)
    print(f"\nthe fix is in Git, commit {seen.commit[:12]}; somebody has read it, and says so:")
    ringfence(place, "recover", "INC-1", "--revision", seen.commit, "--watch", WINDOW)
    look("recover")
    seen.hole_open = any(exploit.send(lab, bank.gateway_url(lab), "6*7") == ("42", "") for _ in range(8))
    return seen


def mend(repository: Any) -> str:
    """The cards service with the image of the mended bank, committed: the commit."""
    content = {}
    for one in wanted():
        if (one["kind"], one["metadata"]["name"]) == ("Deployment", "cards"):
            spec = one["spec"]["template"]["spec"]
            for container in (*spec.get("initContainers", ()), *spec["containers"]):
                container["image"] = MENDED_BANK
            content[f"{gitops.WORKLOAD_FOLDER}/deployment-cards.yaml"] = one
    return gitops.commit(repository, content, "statements fill in names, and nothing else")


# --- what it came to -------------------------------------------------------------------
def checked(lab: Lab, kube: Kube, place: Place, seen: Seen, policy_before: Any) -> dict[str, bool]:
    last = seen.attacker["recover"]
    state = query(place, "status", "INC-1", "-o", "json")
    pods = [pod for pod in kube.list("v1", "Pod", bank.NAMESPACE, labels="app=cards") if is_ready(pod)]
    images = {one["image"] for pod in pods for one in pod["spec"]["containers"]}
    application = kube.get(ARGOCD, "Application", APPLICATION, ARGOCD_NAMESPACE)
    return {
        "after contain the screen said NOT FULLY CONTAINED": seen.verdicts["contain"] == "NOT FULLY CONTAINED",
        "the open connection outlived the fence, and the node cut ended it": seen.attacker["contain"]["old_flow_alive"]
        and not seen.attacker["node-cut"]["old_flow_alive"],
        "every way in is dead, or taken on by a named person": all(
            row["state"] in ("dead", "accepted") for row in state["rows"]
        ),
        "the attacker's connection is dead and his token refused": not last["old_flow_alive"]
        and not last["token_works"],
        "2 of 2 clean pods run, from the approved commit": (len(pods), images) == (2, {MENDED_BANK})
        and application["status"]["sync"]["revision"] == seen.commit,
        "Argo CD syncs as it did before": application["spec"]["syncPolicy"] == policy_before,
        "the hole is closed: the same attack gets in no more": not seen.hole_open,
        "customers saw no more errors than the plans had predicted": against_plans(place, seen).as_predicted,
        "nothing was destroyed before the seal": not destroyed_before_seal(place, lab),
    }


def sync_policy(kube: Kube) -> Any:
    return kube.get(ARGOCD, "Application", APPLICATION, ARGOCD_NAMESPACE)["spec"]["syncPolicy"]


def against_plans(place: Place, seen: Seen) -> felt.Felt:
    """What the customer felt, against what the plans had predicted."""
    timeline = json.loads((place.out / "timeline.json").read_text())
    return felt.compared(seen.calls, felt.predicted(timeline))


def audited(lab: Lab, place: Place) -> bool:
    command = [program("ringfence"), "evidence", "verify", "INC-1", "--audit-log", str(lab.audit_log)]
    print("$ ringfence evidence verify INC-1 --audit-log AUDIT.LOG", flush=True)
    return subprocess.run([*command, "--config", str(place.config)], check=False).returncode == 0


def report(place: Place, seen: Seen, checks: dict[str, bool]) -> int:
    """Print what it came to. Returns the exit code."""
    customers, compared = client.summarise(seen.calls), against_plans(place, seen)
    summary: Json = {
        "seconds_to_cut": round(seconds_to_cut(place, seen.began), 3),
        "verdicts": seen.verdicts,
        "attacker": seen.attacker,
        "rows_after_contain": rows(seen.first),
        "rows": rows(query(place, "status", "INC-1", "-o", "json")),
        "commit": seen.commit,
        "customer_requests": customers.requests,
        "customer_failures": customers.failures,
        "customer_longest_outage_seconds": round(customers.longest_outage, 3),
        "customer_errors": dict(Counter(call.error for call in seen.calls if not call.ok).most_common(5)),
        "customer_against_plans": compared.to_json(),
        "checks": checks,
    }
    (place.out / "summary.json").write_text(json.dumps(summary, indent=1) + "\n")
    heading("What it came to")
    for step, verdict in seen.verdicts.items():
        print(f"{step:<14} {verdict:<22} {words(seen.attacker[step])}")
    print()
    for row in summary["rows"]:
        print(f"  {row['state']:<8} {row['level']:<9} {row['path']}")
    print(
        f"\ncustomers      {customers.requests} requests, {customers.failures} failed, longest wait for a good answer "
        f"{customers.longest_outage:.2f} s"
    )
    print(*compared.lines(), sep="\n")
    print(f"report         {place.out / 'report.html'}, {place.out / 'report.md'}")
    print(f"evidence       {place.out / 'evidence'}\n")
    for name, holds in checks.items():
        print(f"{'yes' if holds else 'NO '}  {name}")
    return 0 if all(checks.values()) else 1
