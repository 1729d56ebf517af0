"""The reference bank: five small services that call each other by their Kubernetes Service names.

    customer ─▶ gateway ─▶ accounts ─▶ ledger
                        ─▶ cards ────▶ ledger
                        ─▶ loans

They run in containers whose image holds Python's standard library and this package, nothing else.
"""
