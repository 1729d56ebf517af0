"""The reference bank in its namespace: deployed, and put back as it was."""

from lab.bank.deploy import NAMESPACE, deploy, gateway_url
from lab.bank.reset import reset

__all__ = ["NAMESPACE", "deploy", "gateway_url", "reset"]
