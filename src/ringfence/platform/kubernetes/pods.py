"""What a pod's own object says (pure): containers, images, what it refers to, what it could reach on the node."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from ringfence.model.base import Json
from ringfence.platform.kubernetes.selectors import printable

_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_API_AUDIENCE = "kubernetes.default.svc"
_STATUS_OF = {
    "initContainers": "initContainerStatuses",
    "containers": "containerStatuses",
    "ephemeralContainers": "ephemeralContainerStatuses",
}


class Container(NamedTuple):
    """A container of any of the three lists with its status (empty before it was ever started)."""

    list: str
    spec: Json
    status: Json

    @property
    def name(self) -> str:
        return str(self.spec["name"])

    @property
    def image_id(self) -> str:
        """What really runs, as the runtime reports it; a digest, not a tag."""
        return str(self.status.get("imageID", ""))

    @property
    def started(self) -> bool:
        """Whether it runs or has run: a container that only ever waited has no log."""
        state = self.status.get("state") or {}
        return bool("running" in state or "terminated" in state or (self.status.get("lastState") or {}))


def containers(pod: Json, lists: Iterable[str] = _STATUS_OF) -> Iterator[Container]:
    """Every container: init, main and ephemeral; or those of some lists of the spec."""
    for key in lists:
        status_key = _STATUS_OF[key]
        statuses = {status["name"]: status for status in (pod.get("status") or {}).get(status_key) or ()}
        for spec in pod["spec"].get(key) or ():
            yield Container(key, spec, statuses.get(spec["name"], {}))


def digest_of(image_id: str) -> str:
    """The digest of an image id; the id itself where it holds none. One image has many names, and one digest."""
    found = _DIGEST.search(image_id)
    return found.group() if found else image_id


def sharing_image(pod: Json) -> Callable[[Json], bool]:
    """Whether another pod shares an image: by its digest, or by its name as long as one of the two was not started."""
    mine = images_of(pod)

    def shares(other: Json) -> bool:
        theirs = images_of(other)
        return bool(mine.digests & theirs.digests or mine.not_started & theirs.names or theirs.not_started & mine.names)

    return shares


def words_of_images(pod: Json) -> frozenset[str]:
    """Of these one at least stands in the JSON of every pod that shares an image with this one."""
    mine = images_of(pod)
    return mine.digests | mine.names


class Images(NamedTuple):
    """The images of main containers: digests, names as asked for, and those of them without a known digest."""

    digests: frozenset[str]
    names: frozenset[str]
    not_started: frozenset[str]


def images_of(pod: Json) -> Images:
    found = [(c.image_id, str(c.spec.get("image", ""))) for c in containers(pod, ("containers",))]
    return Images(
        digests=frozenset(digest_of(id_) for id_, _ in found if id_),
        names=frozenset(name for _, name in found),
        not_started=frozenset(name for id_, name in found if not id_),
    )


def image_names(pod: Json) -> frozenset[str]:
    """The images of init and main containers, as the specification asks for them."""
    found = containers(pod, ("initContainers", "containers"))
    return frozenset(str(container.spec.get("image", "")) for container in found)


def digests(pod: Json) -> frozenset[str]:
    """What the pod's init and main containers really run, as far as they were started."""
    found = containers(pod, ("initContainers", "containers"))
    return frozenset(digest_of(container.image_id) for container in found if container.image_id)


def service_account(pod: Json) -> str:
    return str(pod["spec"].get("serviceAccountName") or "default")


def mounts_token(pod: Json) -> bool:
    """Whether an API token is mounted: a projected serviceAccountToken volume of the API server's own audience.

    That is the default audience, or one that is spelled out as the API server's usual name.
    """
    return any(
        "serviceAccountToken" in source
        and _is_api_audience((source["serviceAccountToken"] or {}).get("audience") or "")
        for volume in pod["spec"].get("volumes") or ()
        for source in (volume.get("projected") or {}).get("sources") or ()
    )


def _is_api_audience(audience: str) -> bool:
    return audience == "" or _API_AUDIENCE in audience


def is_ready(pod: Json) -> bool:
    conditions = (pod.get("status") or {}).get("conditions") or ()
    return any(c.get("type") == "Ready" and c.get("status") == "True" for c in conditions)


def is_finished(pod: Json) -> bool:
    return (pod.get("status") or {}).get("phase") in ("Succeeded", "Failed")


def references(pod: Json) -> dict[str, tuple[str, ...]]:
    """Names of the Secrets, ConfigMaps and claims that the pod refers to (never their contents)."""
    secrets: set[str] = {str(ref.get("name", "")) for ref in pod["spec"].get("imagePullSecrets") or ()}
    config_maps: set[str] = set()
    claims: set[str] = set()
    for container in containers(pod):
        for variable in container.spec.get("env") or ():
            value_from = variable.get("valueFrom") or {}
            secrets.add((value_from.get("secretKeyRef") or {}).get("name", ""))
            config_maps.add((value_from.get("configMapKeyRef") or {}).get("name", ""))
        for source in container.spec.get("envFrom") or ():
            secrets.add((source.get("secretRef") or {}).get("name", ""))
            config_maps.add((source.get("configMapRef") or {}).get("name", ""))
    for volume in pod["spec"].get("volumes") or ():
        secrets.add((volume.get("secret") or {}).get("secretName", ""))
        config_maps.add((volume.get("configMap") or {}).get("name", ""))
        claims.add((volume.get("persistentVolumeClaim") or {}).get("claimName", ""))
        secrets.add(((volume.get("csi") or {}).get("nodePublishSecretRef") or {}).get("name", ""))
        for source in (volume.get("projected") or {}).get("sources") or ():
            secrets.add((source.get("secret") or {}).get("name", ""))
            config_maps.add((source.get("configMap") or {}).get("name", ""))
    return {
        "secrets": tuple(sorted(secrets - {""})),
        "configMaps": tuple(sorted(config_maps - {""})),
        "persistentVolumeClaims": tuple(sorted(claims - {""})),
    }


def node_access(pod: Json) -> tuple[str, ...]:
    """What in the pod's specification reaches into its node: each a short sentence; empty when there is none."""
    spec = pod["spec"]
    found = [f"{key} is on" for key in ("hostNetwork", "hostPID", "hostIPC") if spec.get(key)]
    for container in containers(pod):
        context = container.spec.get("securityContext") or {}
        if context.get("privileged"):
            found.append(f"container {container.name} is privileged")
        if (context.get("windowsOptions") or {}).get("hostProcess"):
            found.append(f"container {container.name} is a Windows host process")
        added = (context.get("capabilities") or {}).get("add") or ()
        if added:
            found.append(
                f"container {container.name} adds capabilities {', '.join(sorted(printable(str(c)) for c in added))}"
            )
        if context.get("procMount") == "Unmasked":
            found.append(f"container {container.name} sees an unmasked /proc")
        found += [
            f"container {container.name} has the node's device {printable(device.get('devicePath', ''))}"
            for device in container.spec.get("volumeDevices") or ()
        ]
    found += [
        f"volume {volume['name']} is the node's folder {printable(volume['hostPath'].get('path', ''))}"
        for volume in spec.get("volumes") or ()
        if volume.get("hostPath")
    ]
    return tuple(found)


def addresses(pod: Json) -> tuple[str, ...]:
    """The pod's own, in the API server's words. A new sandbox gets others."""
    return tuple(sorted(str(one.get("ip", "")) for one in (pod.get("status") or {}).get("podIPs") or ()))


def liveness_probes(pod: Json) -> tuple[str, ...]:
    """The liveness probes that may kill a container after the cut: each with how long that takes at the soonest."""
    found = []
    for container in containers(pod):
        probe = container.spec.get("livenessProbe")
        if not probe:
            continue
        seconds = int(probe.get("failureThreshold", 3)) * int(probe.get("periodSeconds", 10))
        how = next((kind for kind in ("httpGet", "tcpSocket", "grpc", "exec") if kind in probe), "a probe")
        found.append(f"container {container.name}: liveness by {how}, killed after {seconds} s of failures")
    return tuple(found)


def cloud_identity(pod: Json, account: Json | None) -> str:
    """The cloud role that the pod can take, if its objects say so (IRSA annotation, EKS Pod Identity variables)."""
    annotations = ((account or {}).get("metadata") or {}).get("annotations") or {}
    if role := annotations.get("eks.amazonaws.com/role-arn"):
        return f"IAM role {printable(role)} (IRSA)"
    names = {v.get("name") for c in containers(pod) for v in c.spec.get("env") or ()}
    if "AWS_CONTAINER_CREDENTIALS_FULL_URI" in names:
        return "an IAM role by EKS Pod Identity"
    if "AWS_ROLE_ARN" in names:
        return "an IAM role named in AWS_ROLE_ARN"
    return ""
