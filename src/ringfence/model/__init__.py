"""The nouns of Ringfence: frozen, validated, free of I/O."""
