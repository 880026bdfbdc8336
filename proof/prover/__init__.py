"""The proofs of docs/proof.md."""
