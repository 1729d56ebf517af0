"""A good playbook to spoil."""

from __future__ import annotations

from ringfence.playbooks import PlaybookError, load

GOOD = """\
apiVersion: ringfence.dev/v1
kind: Playbook
metadata:
  name: drill
  title: A drill
  description: What the tests spoil.
spec:
  incident: {type: drill, severity: high}
  targets: [Pod, Deployment]
  steps:
    - id: cut
      title: Cut
      action: network.quarantine
      phase: containing
      with: {shape: fence}
      on: {refused: continue}
    - id: seal-it
      title: Seal
      action: evidence.seal
      phase: containing
    - id: ask
      title: Ask
      action: human.approve
      phase: eradicating
      with: {reason: May they go}
    - id: delete
      title: Delete
      action: pod.delete
      phase: eradicating
      when: incident.severity == 'high'
"""


def spoil(*edits: tuple[str, str]) -> str:
    """GOOD with each first text replaced; it must be there once."""
    text = GOOD
    for old, new in edits:
        assert text.count(old) == 1, f"{old!r} is there {text.count(old)} times"
        text = text.replace(old, new)
    return text


def mistakes_of(text: str | bytes, source: str = "drill.yaml") -> list[tuple[int, str, str]]:
    """Line, what and what to do of each mistake; empty when the playbook loads."""
    content = text if isinstance(text, bytes) else text.encode()
    try:
        load(content, source)
    except PlaybookError as error:
        return [(one.line, one.what, one.next_step) for one in error.mistakes]
    return []
