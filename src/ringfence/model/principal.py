"""Who acts: a principal that something else vouches for, never a name that was typed."""

from __future__ import annotations

from ringfence.model.base import Noun


class Principal(Noun):
    """``issuer`` vouches for ``subject``: for ``kubernetes:<cluster uid>`` the API server's SelfSubjectReview.

    ``kind`` is ``kubernetes``, or ``local`` for an operating-system user that nobody vouches for (reading only).
    """

    issuer: str
    subject: str
    kind: str
    groups: tuple[str, ...] = ()

    @property
    def id(self) -> str:
        return f"{self.issuer}/{self.subject}"

    def __str__(self) -> str:
        return self.subject
