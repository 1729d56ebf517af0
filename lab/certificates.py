"""The cluster's public key infrastructure: one CA, a certificate for each part, and kubeconfigs.

Made once for each lab, valid for ten years; a half-made one is never seen, because the folder appears by renaming.
"""

from __future__ import annotations

import base64
import ipaddress
import os
import shutil
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from lab import files
from lab.layout import Lab

VALIDITY = timedelta(days=3650)


@dataclass(frozen=True)
class Subject:
    """One certificate: who it names (Kubernetes reads CN as user, O as groups) and where it may be served."""

    file: str
    common_name: str
    organization: str | None = None
    names: tuple[str, ...] = ()

    @property
    def serves(self) -> bool:
        return bool(self.names)


def subjects(lab: Lab) -> tuple[Subject, ...]:
    """Every certificate of a lab. Users and groups as Kubernetes' own authorizers and bootstrap roles expect them."""
    api_names = (
        "localhost",
        "kubernetes",
        "kubernetes.default",
        "kubernetes.default.svc",
        "kubernetes.default.svc.cluster.local",
        "127.0.0.1",
        lab.kubernetes_service,
        lab.host_address,
    )
    return (
        Subject("etcd", "etcd", names=("localhost", "127.0.0.1")),
        Subject("etcd-client", "kube-apiserver-etcd-client"),
        Subject("apiserver", "kube-apiserver", names=api_names),
        Subject("apiserver-kubelet-client", "kube-apiserver-kubelet-client", "system:masters"),
        Subject("admin", "kubernetes-admin", "system:masters"),
        Subject("controller-manager", "system:kube-controller-manager"),
        Subject("scheduler", "system:kube-scheduler"),
        Subject("kube-proxy", "system:kube-proxy"),
        Subject("kubelet-client", f"system:node:{lab.node}", "system:nodes"),
        Subject("kubelet", f"system:node:{lab.node}", "system:nodes", names=(lab.node, lab.node_address)),
    )


def ensure(lab: Lab) -> None:
    """Makes keys, certificates and kubeconfigs unless the lab has them."""
    if not lab.pki.exists():
        temporary = lab.state / ".pki-new"
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(mode=0o700)
        _make_keys(lab, temporary)
        temporary.rename(lab.pki)
    lab.configuration.mkdir(mode=0o700, exist_ok=True)
    for name, server in (
        ("controller-manager", lab.api_url),
        ("scheduler", lab.api_url),
        ("kubelet-client", lab.api_url_from_node),
        ("kube-proxy", lab.api_url_from_node),
    ):
        write_kubeconfig(lab, name, server, kubeconfig_of(lab, name))
    write_kubeconfig(lab, "admin", lab.api_url, lab.kubeconfig)
    # Someone who ran the lab by sudo reads the administrator's kubeconfig without it.
    if "SUDO_UID" in os.environ and "SUDO_GID" in os.environ:
        os.chown(lab.kubeconfig, int(os.environ["SUDO_UID"]), int(os.environ["SUDO_GID"]))


def certificate(lab: Lab, name: str) -> Path:
    return lab.pki / f"{name}.crt"


def key(lab: Lab, name: str) -> Path:
    return lab.pki / f"{name}.key"


def kubeconfig_of(lab: Lab, name: str) -> Path:
    """The kubeconfig of a component (not of the administrator: that is ``lab.kubeconfig``)."""
    return lab.configuration / f"{name}.kubeconfig"


def write_kubeconfig(lab: Lab, name: str, server: str, path: Path) -> None:
    """A kubeconfig that holds its certificate and key itself, so it can be copied anywhere."""
    content = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": lab.name,
        "clusters": [
            {
                "name": lab.name,
                "cluster": {"server": server, "certificate-authority-data": _data(certificate(lab, "ca"))},
            }
        ],
        "users": [
            {
                "name": f"{lab.name}-{name}",
                "user": {
                    "client-certificate-data": _data(certificate(lab, name)),
                    "client-key-data": _data(key(lab, name)),
                },
            }
        ],
        "contexts": [{"name": lab.name, "context": {"cluster": lab.name, "user": f"{lab.name}-{name}"}}],
    }
    text = yaml.safe_dump(content, sort_keys=False)
    files.write(path, text, mode=0o600)


def _data(path: Path) -> str:
    return base64.b64encode(path.read_bytes()).decode()


def _make_keys(lab: Lab, folder: Path) -> None:
    authority_key = ec.generate_private_key(ec.SECP256R1())
    authority = _sign(Subject("ca", f"{lab.name} lab CA"), authority_key, authority_key, None)
    _save(folder, "ca", authority_key, authority)
    for subject in subjects(lab):
        own_key = ec.generate_private_key(ec.SECP256R1())
        _save(folder, subject.file, own_key, _sign(subject, own_key, authority_key, authority))
    # Service account tokens are RS256 in most clusters, so they are here.
    tokens = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    _write_key(folder / "service-account.key", tokens)
    public = tokens.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    (folder / "service-account.pub").write_bytes(public)


def _save(folder: Path, name: str, own_key: ec.EllipticCurvePrivateKey, signed: x509.Certificate) -> None:
    _write_key(folder / f"{name}.key", own_key)
    (folder / f"{name}.crt").write_bytes(signed.public_bytes(serialization.Encoding.PEM))


def _write_key(path: Path, own_key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey) -> None:
    path.touch(mode=0o600)
    path.write_bytes(
        own_key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )


def _sign(
    subject: Subject,
    own_key: ec.EllipticCurvePrivateKey,
    authority_key: ec.EllipticCurvePrivateKey,
    authority: x509.Certificate | None,
) -> x509.Certificate:
    """A certificate for ``own_key``, signed by ``authority`` (None: it is the authority itself)."""
    attributes = [x509.NameAttribute(NameOID.COMMON_NAME, subject.common_name)]
    if subject.organization:
        attributes.append(x509.NameAttribute(NameOID.ORGANIZATION_NAME, subject.organization))
    name = x509.Name(attributes)
    now = datetime.now(UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(authority.subject if authority else name)
        .public_key(own_key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(minutes=5))
        .not_valid_after(now + VALIDITY)
        .add_extension(x509.BasicConstraints(ca=authority is None, path_length=None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(own_key.public_key()), critical=False)
        .add_extension(_key_usage(authority is None), critical=True)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(authority_key.public_key()), critical=False)
    )
    if authority is not None:
        usages = [ExtendedKeyUsageOID.CLIENT_AUTH]
        if subject.serves:
            usages.append(ExtendedKeyUsageOID.SERVER_AUTH)
        builder = builder.add_extension(x509.ExtendedKeyUsage(usages), critical=False)
    if subject.serves:
        alternatives = [_alternative_name(each) for each in subject.names]
        builder = builder.add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
    return builder.sign(authority_key, hashes.SHA256())


def _key_usage(authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        key_cert_sign=authority,
        crl_sign=authority,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _alternative_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)
