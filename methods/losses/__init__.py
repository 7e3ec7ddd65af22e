"""The losses that are compared, one family a file.

Each stands there twice: `<loss>_textbook`, the published equation in plain torch, differentiated by autograd through
the full matrices; and `<loss>`, the same value and gradient from the engine. The first is for the reader, the tests and
`spherebench cost`. Both take V views' embeddings (N, D), not normalised.
"""
