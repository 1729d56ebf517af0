"""Sealed evidence: the bundle format, its signature, and its verification offline with the public key alone.

This room can be read on its own: it imports nothing else of Ringfence but the error classes, and it does no I/O beyond
bundles, blobs and key files. Suggested order of reading:

========== ============================================================================================================
canonical  the one JSON encoding (RFC 8785) and the strict records that are read from it
tar        the one tar encoding: every byte of a bundle follows from its members, and is checked
blob       evidence as stored bytes (compressed) and raw bytes (as the server sent them), hashed while streaming
manifest   what was acquired, how, by whom, and what could not be had
chain      hash chains; ``custody`` and ``timeline`` are the two that a bundle carries
statement  what is signed: an in-toto Statement that names all of the above by digest
envelope   the DSSE envelope around the statement
keys       public keys, key ids, the canonical form of a signature
verify     the numbered algorithm: start here if time is short
cli        ``ringfence-verify``
stamp      time stamps of third parties, which lie beside a bundle
anchor     heads of timelines, for a place elsewhere
signing    private keys and other signers        (writing side)
atrest     files of the vault, encrypted        (writing side)
files      files that appear whole or not at all (writing side)
write      how a bundle is made                  (writing side)
========== ============================================================================================================

A bundle, version 1, is one file::

    seal.json             DSSE envelope, one ECDSA P-256 signature; its payload is the in-toto Statement
    manifest.json         the items of evidence
    custody.jsonl         the custody chain, one entry per line
    timeline.jsonl        the incident's timeline, one event per line
    blobs/sha256/<hex>    the stored bytes of every collected item, sorted by name, each once

    seal.json ─signs─▶ statement ─sha256─▶ manifest.json ─sha256, twice─▶ blobs (as stored, and as the server sent them)
                                 ─sha256─▶ custody.jsonl, timeline.jsonl

Version 1 is closed: the envelope, the statement, the manifest and the entries of both chains refuse members that this
version does not know. A member that a verifier skips is a member that two readers can understand differently.

Nothing is imported here, so that ``ringfence-verify`` loads only what verification needs.
"""
