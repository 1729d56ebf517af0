"""``python -m lab``: the lab's command line."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
from typing import Any

from lab import admission, attack, layout, lifecycle, packages, profiles, programs
from lab.errors import LabError, UnsupportedMachine
from lab.kube import Kube
from lab.layout import Lab

EXIT_FAILED = 1
EXIT_UNSUPPORTED = 2


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(
        prog="python -m lab", description="A real Kubernetes with a small bank, on this machine."
    )
    commands = top.add_subparsers(dest="command", required=True)

    def command(name: str, text: str) -> argparse.ArgumentParser:
        added = commands.add_parser(name, help=text, description=text)
        added.add_argument("--name", default=layout.DEFAULT_NAME, help="which lab (default: %(default)s)")
        return added

    def some_profiles(to: argparse.ArgumentParser, text: str) -> None:
        to.add_argument("--profile", action="append", default=[], choices=sorted(profiles.PROFILES), help=text)

    up = command("up", "Start the lab, or heal it; a running one is left as it is.")
    up.add_argument("--bare", action="store_true", help="only the cluster: no bank, no attacker")
    up.add_argument(
        "--flows",
        choices=lifecycle.FLOWS,
        help="open connections that a new NetworkPolicy forbids are kept or cut (default: as before; at first kept)",
    )
    some_profiles(up, "turn this profile on too (may be given several times); it stays on until it is turned off")
    profile = command("profile", "Turn a profile of a running lab on or off; off leaves nothing of it in the cluster.")
    profile.add_argument("profile", choices=sorted(profiles.PROFILES))
    profile.add_argument("state", choices=("on", "off"))
    policy = command("policy", "Bind a namespace by Kyverno's policies about pods, or free it again.")
    policy.add_argument("action", choices=("install", "remove"))
    policy.add_argument("namespace")
    policy.add_argument("policies", nargs="+", choices=sorted(admission.BY_NAME), metavar="policy", help="%(choices)s")
    command("down", "End the lab and remove all of it but the cache.")
    status = command("status", "Say what runs.")
    status.add_argument("-o", "--output", choices=("text", "json"), default="text")
    attack = command("attack", "Play the attacker.")
    attack.add_argument("arguments", nargs=argparse.REMAINDER, help="beacon, status, stop; see `attack -- --help`")
    command("kubeconfig", "Print the path of the administrator's kubeconfig.")
    kubectl = command("kubectl", "Run the lab's kubectl as its administrator.")
    kubectl.add_argument("arguments", nargs=argparse.REMAINDER, help="what kubectl shall do")
    build = command("build", "Install packages and build the programs, no more.")
    some_profiles(build, "what this profile needs too (may be given several times)")
    return top


def main(argv: list[str] | None = None) -> int:
    arguments = parser().parse_args(argv)
    try:
        return run(arguments)
    except UnsupportedMachine as error:
        print(f"lab: {error}", file=sys.stderr)
        return EXIT_UNSUPPORTED
    except LabError as error:
        print(f"lab: {error}", file=sys.stderr)
        return EXIT_FAILED


def run(arguments: argparse.Namespace) -> int:
    match arguments.command:
        case "up":
            lifecycle.up(arguments.name, flows=arguments.flows, bare=arguments.bare, with_profiles=arguments.profile)
        case "profile":
            lifecycle.switch(arguments.name, arguments.profile, on=arguments.state == "on")
        case "down":
            lifecycle.down(arguments.name)
        case "status":
            content = lifecycle.status(_existing(arguments.name))
            print(json.dumps(content, indent=2) if arguments.output == "json" else as_text(content))
            healthy = content["api_ready"] and content["node_ready"] and all(content["parts"].values())
            return 0 if healthy else EXIT_FAILED
        case "attack":
            return attack.main(_existing(arguments.name), arguments.arguments)
        case "kubeconfig":
            print(_existing(arguments.name).kubeconfig)
        case "kubectl":
            program = str(programs.path("kubectl"))
            kubeconfig = f"--kubeconfig={_existing(arguments.name).kubeconfig}"
            os.execv(program, [program, kubeconfig, *arguments.arguments])
        case "policy":
            act = admission.install if arguments.action == "install" else admission.remove
            with contextlib.closing(Kube.of(_existing(arguments.name))) as kube:
                act(kube, arguments.namespace, *(admission.BY_NAME[name] for name in arguments.policies))
        case "build":
            lifecycle.require_machine()
            packages.ensure()
            programs.ensure()
            profiles.build(arguments.profile)
    return 0


def as_text(content: dict[str, Any]) -> str:
    """``lifecycle.status`` as a short table."""
    rows = [(name, f"running, process {pid}" if pid else "not running") for name, pid in content["parts"].items()]
    rows.append(("API server", "ready" if content["api_ready"] else "not ready"))
    rows.append(("node", "Ready" if content["node_ready"] else "not Ready"))
    pods = "unknown" if content["pods"] is None else f"{content['pods_ready']} of {content['pods']} ready"
    rows.append(("pods", pods))
    rows.append(("profiles", ", ".join(content["profiles"]) or "none"))
    rows.append(("kubeconfig", content["kubeconfig"]))
    return "\n".join(f"{name:<26}{state}" for name, state in rows)


def _existing(name: str) -> Lab:
    lab = layout.find(name)
    if lab is None:
        raise LabError(f"lab {name} is not there: start it by `python -m lab up --name {name}`")
    return lab


if __name__ == "__main__":
    sys.exit(main())
