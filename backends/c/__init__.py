"""The ``c`` backend: portable C99 to embed, and the native engine, from one generator."""
